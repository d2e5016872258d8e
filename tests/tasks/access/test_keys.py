"""Which limits can a key have, and do the admin and the command accept the same?"""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from tasks_app.models import ApiKey

pytestmark = pytest.mark.django_db

SAID: list[tuple[str, str, list[str], Any]] = [
    ("", "", [], None),
    (
        "Hooks.Partner.org, b.example.net",
        "durable",
        ["hooks.partner.org", "b.example.net"],
        "durable",
    ),
    ("[2001:DB8::0:1]", "1, 2.5", ["2001:db8::1"], [1.0, 2.5]),
    ("203.0.113.9", "[]", ["203.0.113.9"], []),
]
REFUSED = [("https://partner.org", ""), ("partner.org:8443", ""), ("par_tner.org", "")]
REFUSED += [("", "sometimes"), ("", "1,two"), ("", "-1"), ("", "172800")]


def in_admin(client: Client, hosts: str, policy: str) -> Any:
    """Make a key through the admin's form."""
    form = {"name": "partner", "scopes": ["read"], "reason": "a test"}
    form |= {"callback_hosts": hosts, "retry_policy": policy}
    return client.post(reverse("admin:tasks_app_apikey_add"), form, follow=True)


def on_command(hosts: str, policy: str) -> None:
    """Make a key on the command line."""
    options = {"callback_hosts": hosts, "retry_policy": policy}
    call_command("create_api_key", "partner", **options)


@pytest.mark.parametrize(("hosts", "policy", "kept_hosts", "kept_policy"), SAID)
def test_hosts_and_policy_of_a_key_are_kept(
    admin_client: Client, hosts: str, policy: str, kept_hosts: list[str], kept_policy: Any
) -> None:
    """The admin and the command store the same limits for a key's tasks and callbacks."""
    answer = in_admin(admin_client, hosts, policy)
    on_command(hosts, policy)
    kept = ApiKey.objects.values_list("callback_hosts", "retry_policy")
    assert list(kept) == [(kept_hosts, kept_policy)] * 2
    page = admin_client.get(reverse("admin:tasks_app_apikey_change", args=[first_key()]))
    shown = "the service's default" if kept_policy is None else str(kept_policy)
    assert f"<dd>{shown}</dd>" in page.content.decode()
    assert answer.status_code == 200


def first_key() -> str:
    """Return the primary key of one of the keys."""
    return str(ApiKey.objects.earliest("created").pk)


@pytest.mark.parametrize(("hosts", "policy"), REFUSED)
def test_nonsense_makes_no_key(admin_client: Client, hosts: str, policy: str) -> None:
    """A URL as a host and waits of two days in a policy are refused."""
    assert b"errorlist" in in_admin(admin_client, hosts, policy).content
    with pytest.raises(CommandError) as refused:
        on_command(hosts, policy)
    assert refused.value.returncode == 2
    assert not ApiKey.objects.exists()
