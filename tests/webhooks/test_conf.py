"""The WEBHOOKS dict: defaults, refusals, and following override_settings."""

import ipaddress

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from webhooks_app.conf import load, webhook_settings


def test_defaults_are_those_of_the_contract():
    """Proves that an empty dict gives the documented delivery behaviour."""
    conf = load({})
    assert conf.TIMEOUT_SECONDS == 30
    assert {200, 201, 202, 204} == conf.SUCCESS_STATUSES
    assert conf.POLICIES["standard"] == [1, 2, 4]
    assert conf.REQUIRE_HTTPS is True
    assert conf.ALLOW_NETWORKS == ()
    assert conf.lease_seconds == 45


def test_unknown_key_is_refused_with_the_nearest_known_one():
    """Proves that a misspelt key is not silently ignored."""
    with pytest.raises(ImproperlyConfigured, match="did you mean 'TIMEOUT_SECONDS'"):
        load({"TIMEOUT_SECOND": 3})
    with pytest.raises(ImproperlyConfigured, match="no key 'zzz'"):
        load({"zzz": 3})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ENGINE", "thread"),
        ("LEASE_MARGIN_SECONDS", 2),
        ("TIMEOUT_SECONDS", 0),
        ("TIMEOUT_SECONDS", "30"),
        ("MAX_IN_FLIGHT", 0),
        ("MAX_IN_FLIGHT", True),
        ("REQUIRE_HTTPS", "yes"),
        ("ALLOW_NETWORKS", ["10.0.0.1/8"]),
        ("ALLOW_NETWORKS", 5),
        ("RETRY_POLICY", "durabel"),
        ("POLICIES", [1, 2]),
        ("USER_AGENT", "a\r\nX-Evil: 1"),
    ],
)
def test_bad_value_is_refused(key, value):
    """Proves that a value of the wrong kind stops the start, not the first delivery."""
    with pytest.raises(ImproperlyConfigured, match=key):
        load({key: value})


def test_allowing_every_network_is_refused_outside_debug():
    """Proves that one line cannot switch the egress policy off in production."""
    for network in ("0.0.0.0/0", "::/0"):
        with override_settings(DEBUG=False), pytest.raises(ImproperlyConfigured, match="egress"):
            load({"ALLOW_NETWORKS": [network]})
    with override_settings(DEBUG=True):
        assert load({"ALLOW_NETWORKS": ["0.0.0.0/0"]}).ALLOW_NETWORKS


def test_lists_may_be_given_as_text_of_an_environment_variable():
    """Proves that comma and space separated text gives the same as a list."""
    conf = load({"ALLOW_NETWORKS": "127.0.0.1/32, ::1/128", "ALLOW_HOSTS": "LocalHost"})
    assert (
        ipaddress.ip_network("127.0.0.1/32"),
        ipaddress.ip_network("::1/128"),
    ) == conf.ALLOW_NETWORKS
    assert {"localhost"} == conf.ALLOW_HOSTS


def test_settings_follow_override_settings():
    """Proves that the accessor never serves a value of a setting that has changed."""
    with override_settings(WEBHOOKS={"TIMEOUT_SECONDS": 7}):
        assert webhook_settings.TIMEOUT_SECONDS == 7
        with override_settings(WEBHOOKS={"TIMEOUT_SECONDS": 8}):
            assert webhook_settings.TIMEOUT_SECONDS == 8
        assert webhook_settings.TIMEOUT_SECONDS == 7


def test_own_policy_is_added_to_the_built_in_ones():
    """Proves that adding a policy does not remove the standard one."""
    conf = load({"POLICIES": {"hourly": [3600]}, "RETRY_POLICY": "hourly"})
    assert conf.POLICIES["hourly"] == [3600]
    assert conf.POLICIES["standard"] == [1, 2, 4]


@pytest.mark.parametrize(
    ("given", "rate"),
    [("20/10m", (20, 600.0)), ("1/1s", (1, 1.0)), ("5/2h", (5, 7200.0)), ("off", None), ("", None)],
)
def test_a_rate_is_a_count_and_a_time(given: str, rate: tuple[int, float] | None) -> None:
    """The alert on dead letters reads as people write it, and can be switched off."""
    assert rate == load({"DEAD_LETTER_ALERT": given}).DEAD_LETTER_ALERT


@pytest.mark.parametrize("given", ["20", "20/m", "0/10m", "20/10d", "20 / 10m", "-1/1m", 20])
def test_a_rate_that_is_none_is_refused(given: object) -> None:
    """The error says what form it has."""
    with pytest.raises(ImproperlyConfigured, match="such as 20/10m, or off"):
        load({"DEAD_LETTER_ALERT": given})
