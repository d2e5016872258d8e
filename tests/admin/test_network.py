"""Is the admin invisible outside of its allowed networks?"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from django.test import Client

pytestmark = pytest.mark.django_db


def test_outside_the_networks_there_is_no_admin(settings: Any, admin_client: Client) -> None:
    """Inside nothing changes; outside each page is an ordinary 404, logged in or not."""
    settings.ADMIN_ALLOW_NETWORKS = [ip_network("10.8.0.0/16"), ip_network("fd00::/8")]
    for path in ("/admin/", "/admin", "/admin/login/", "/admin/webhooks_app/webhookmessage/"):
        answer = admin_client.get(path)
        assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
    assert admin_client.get("/admin/", REMOTE_ADDR="10.8.3.4").status_code == 200
    assert admin_client.get("/admin/", REMOTE_ADDR="fd00::5").status_code == 200
    assert Client().get("/api/v1/health").status_code == 200


def test_only_a_declared_proxy_is_believed(settings: Any, admin_client: Client) -> None:
    """A client's own X-Forwarded-For is ignored; the trusted proxy's is the client's address."""
    settings.ADMIN_ALLOW_NETWORKS = [ip_network("10.8.0.0/16")]
    named = {"x-forwarded-for": "10.8.3.4"}
    assert admin_client.get("/admin/", headers=named).status_code == 404
    settings.TRUSTED_PROXIES = 1
    assert admin_client.get("/admin/", headers=named).status_code == 200
    assert admin_client.get("/admin/", headers={"x-forwarded-for": "x"}).status_code == 404
