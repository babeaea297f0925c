"""The settings: read at each access, typed, and named in the error when invalid."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import Settings

from bunce_sync.conf import SETTINGS, Conf, conf
from bunce_sync.exceptions import ConfigurationError

DEFAULTS = {
    "API_KEY": "",
    "ENV": "live",
    "BASE_URL": "",
    "CONNECT_TIMEOUT": 3.0,
    "READ_TIMEOUT": 20.0,
    "LEASE": 90.0,
    "GRACE": 120.0,
    "RATE_LIMIT": 500,
    "RATE_WINDOW": 60.0,
    "SWEEP_INTERVAL": 10.0,
    "PAGE_SIZE": 100,
    "CUSTOMERS_PER_REQUEST": 100,
    "QUEUE": "",
    "LEDGER_DAYS": 30,
    "DESCRIPTION_MAX_LENGTH": 10_000,
    "IMPORT_INTERVAL": None,
}
TIMES = ["CONNECT_TIMEOUT", "READ_TIMEOUT", "LEASE", "GRACE", "RATE_WINDOW", "SWEEP_INTERVAL"]
COUNTS = [
    "RATE_LIMIT",
    "PAGE_SIZE",
    "CUSTOMERS_PER_REQUEST",
    "LEDGER_DAYS",
    "DESCRIPTION_MAX_LENGTH",
]


def given(settings: Settings, key: str, value: object) -> Any:
    settings.BUNCE_SYNC = {key: value}
    return getattr(conf, key)


@pytest.mark.parametrize("key", DEFAULTS)
def test_each_setting_has_its_default(settings: Settings, key: str) -> None:
    settings.BUNCE_SYNC = {}
    assert getattr(conf, key) == DEFAULTS[key]


def test_there_are_no_other_settings() -> None:
    assert set(SETTINGS) == set(DEFAULTS)


def test_a_site_without_the_dict_gets_the_defaults(settings: Settings) -> None:
    del settings.BUNCE_SYNC
    assert conf.LEASE == 90


def test_a_change_is_seen_at_the_next_access(settings: Settings) -> None:
    assert given(settings, "LEASE", 45) == 45.0
    settings.BUNCE_SYNC["LEASE"] = 46
    assert conf.LEASE == 46.0
    assert Conf().LEASE == 46.0


def test_a_setting_that_is_not_a_dict_is_an_error(settings: Settings) -> None:
    settings.BUNCE_SYNC = ["API_KEY"]
    with pytest.raises(ConfigurationError, match="BUNCE_SYNC must be a dict"):
        _ = conf.LEASE


@pytest.mark.parametrize("key", TIMES)
@pytest.mark.parametrize("value", [0, -1, "10", True, None, float("nan"), float("inf"), [10]])
def test_a_time_is_a_number_of_seconds_above_zero(
    settings: Settings, key: str, value: object
) -> None:
    assert given(settings, key, 0.5) == 0.5
    with pytest.raises(ConfigurationError, match=rf"BUNCE_SYNC\['{key}'\] must be a number"):
        given(settings, key, value)


@pytest.mark.parametrize("key", COUNTS)
@pytest.mark.parametrize("value", [0, -1, 1.5, "10", True, float("nan")])
def test_a_count_is_a_whole_number_above_zero(settings: Settings, key: str, value: object) -> None:
    assert given(settings, key, 7) == 7
    with pytest.raises(ConfigurationError, match=rf"BUNCE_SYNC\['{key}'\] must be"):
        given(settings, key, value)


def test_only_the_rate_limit_may_be_none_for_no_limit(settings: Settings) -> None:
    assert given(settings, "RATE_LIMIT", None) is None
    for key in ("PAGE_SIZE", "LEDGER_DAYS"):
        with pytest.raises(ConfigurationError):
            given(settings, key, None)


def test_a_page_has_at_most_1000_rows(settings: Settings) -> None:
    assert given(settings, "PAGE_SIZE", 1000) == 1000
    with pytest.raises(ConfigurationError, match="at most 1000"):
        given(settings, "PAGE_SIZE", 1001)


def test_whitespace_around_the_key_is_removed(settings: Settings) -> None:
    assert given(settings, "API_KEY", " sk_test_1\n") == "sk_test_1"


@pytest.mark.parametrize("key", ["sk test", "sk\ntest", "sk_täst", "sk\x00", b"sk_test_1", 7, None])
def test_an_invalid_key_is_reported_but_not_shown(settings: Settings, key: object) -> None:
    with pytest.raises(ConfigurationError, match=r"BUNCE_SYNC\['API_KEY'\] must") as caught:
        given(settings, "API_KEY", key)
    assert "sk" not in str(caught.value).replace("BUNCE_SYNC", "")
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("value", ["test", "", None, ["live"], "LIVE"])
def test_the_environment_is_live_or_sandbox(settings: Settings, value: object) -> None:
    with pytest.raises(ConfigurationError, match='must be "live" or "sandbox"'):
        given(settings, "ENV", value)


def test_the_base_url_follows_the_environment_unless_it_is_set(settings: Settings) -> None:
    settings.BUNCE_SYNC = {}
    assert conf.base_url == "https://api.bunce.so/v1"
    settings.BUNCE_SYNC = {"ENV": "sandbox"}
    assert conf.base_url == "https://sandbox.api.bunce.so/v1"
    settings.BUNCE_SYNC = {"ENV": "sandbox", "BASE_URL": " http://127.0.0.1:8790/v1/ "}
    assert conf.base_url == "http://127.0.0.1:8790/v1"


@pytest.mark.parametrize(
    "address",
    [
        "api.bunce.so",
        "ftp://api.bunce.so",
        "https://",
        "https://[::1",
        "https://api.bunce.so:port",
        "https://api.bunce.so:70000",
        "https://me:secret@api.bunce.so:port/",
        "https://me:secret@api.bunce.so/v1",
        "https://api.bunce.so/v1?key=secret",
        "https://api.bunce.so/v1#secret",
        8790,
    ],
)
def test_an_invalid_url_is_reported_but_not_shown(settings: Settings, address: object) -> None:
    with pytest.raises(ConfigurationError, match=r"BUNCE_SYNC\['BASE_URL'\] must") as caught:
        given(settings, "BASE_URL", address)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", [None, 7])
def test_the_queue_is_a_name(settings: Settings, value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"BUNCE_SYNC\['QUEUE'\] must"):
        given(settings, "QUEUE", value)


def test_a_request_may_take_both_timeouts_together(settings: Settings) -> None:
    settings.BUNCE_SYNC = {"CONNECT_TIMEOUT": 2, "READ_TIMEOUT": 5}
    assert conf.request_deadline == 7.0
