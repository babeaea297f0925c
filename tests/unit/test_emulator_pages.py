"""The front page and the control endpoints of the emulator."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from bunce_sync.testing.emulator import Emulator, Faults
from tests.emulator_client import Api


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(key="sk_test_secret") as emulator:
        yield emulator


@pytest.fixture
def api(emulator: Emulator) -> Iterator[Api]:
    with Api(emulator, "sk_test_secret") as api:
        yield api


def page(emulator: Emulator) -> str:
    response = requests.get(emulator.url, timeout=10)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    return response.text


def control(emulator: Emulator, method: str, path: str, body: Any = None) -> requests.Response:
    return requests.request(method, f"{emulator.url}/control/{path}", json=body, timeout=10)


def test_the_front_page_lists_the_segments_newest_first(emulator: Emulator) -> None:
    moment = datetime(2024, 12, 5, 8, 30, 16, tzinfo=UTC)
    old = emulator.add_segment("Old", "the first", created_at=moment)
    emulator.add_segment("New", created_at=moment + timedelta(days=1), type="automatic")
    text = page(emulator)
    assert text.index("New") < text.index("Old")
    for shown in (old.id, "the first", "2024-12-05 08:30:16", "automatic"):
        assert shown in text


def test_the_front_page_escapes_what_clients_sent(emulator: Emulator, api: Api) -> None:
    nasty = "<script>alert('x')</script>&\"\ud800"
    api.create(nasty, description=nasty)
    text = page(emulator)
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&amp;&quot;?") == 2


def test_the_front_page_stays_small_with_many_segments(emulator: Emulator) -> None:
    for number in range(205):
        emulator.add_segment(f"Segment {number}")
    text = page(emulator)
    assert "The newest 200 of 205 segments" in text
    assert text.count('<td class="text">Segment ') == 200


def test_the_front_page_shows_what_is_configured(emulator: Emulator, api: Api) -> None:
    api("GET", "/segments")
    emulator.set_faults(Faults(lost_answer=0.05), script=["hold_after"])
    emulator.set(outage="hold")
    text = page(emulator)
    assert "1 / 500" in text
    assert "lost_answer 0.05" in text
    assert "next calls: 1" in text
    assert "“hold”" in text
    assert emulator.base_url in text
    assert "sk_test_secret" not in text
    with Emulator(rate_limit=1, key=None) as other, Api(other) as client:
        assert "sk_test_local" in page(other)
        for _ in range(2):
            client("GET", "/segments")
        assert "127.0.0.1 exceeded the rate limit" in page(other)


def test_the_state_lists_duplicates(emulator: Emulator, api: Api) -> None:
    first, second = api.create("A"), api.create("A", description="")
    api.create("B")
    state = control(emulator, "GET", "state").json()
    assert (state["segments"], state["duplicate_count"], state["requests"]) == (3, 1, 3)
    assert state["duplicates"] == [
        {"name": "A", "description": None, "ids": [first["id"], second["id"]]}
    ]
    assert state["worst_window"] == 3


def test_faults_can_be_read_and_replaced(emulator: Emulator, api: Api) -> None:
    response = control(
        emulator,
        "PUT",
        "faults",
        {"error_before": 1, "methods": ["PATCH"], "seed": 5, "script": ["html_502"]},
    )
    assert response.status_code == 200
    assert (response.json()["error_before"], response.json()["seed"]) == (1, 5)
    assert control(emulator, "GET", "faults").json() == response.json()
    statuses = [api("POST", "/segments", {"name": "A"}).status_code for _ in range(2)]
    assert statuses == [502, 201]
    assert control(emulator, "GET", "state").json()["injected"] == {"html_502": 1}

    control(emulator, "PUT", "faults", {})
    assert emulator.faults == Faults()


def test_settings_can_be_read_and_changed_one_by_one(emulator: Emulator) -> None:
    before = control(emulator, "GET", "settings").json()
    assert "key" not in before
    after = control(emulator, "PUT", "settings", {"rate_limit": None, "paging": "cursor"}).json()
    assert after == {**before, "rate_limit": None, "paging": "cursor"}
    assert emulator.options.rate_limit is None


def test_options_can_be_set_over_http(emulator: Emulator, api: Api) -> None:
    changes = {
        "taken_names": ["VIP"], "plan_limit": 1, "blocked_text": "x", "stored_name": "upper",
        "page_cap": 5, "max_per_page": 50, "hide_every": 20, "empty_page": 2,
        "refused_customers": ["b"], "refused_customer_text": "@", "customers_limit": 2,
        "customers_limit_status": 422, "customers_plan_limit": 9,
    }  # fmt: skip
    before = control(emulator, "GET", "settings").json()
    assert control(emulator, "PUT", "settings", changes).json() == {**before, **changes}
    assert emulator.options.taken_names == ("VIP",)
    statuses = [api("POST", "/segments", {"name": name}).status_code for name in ("VIP", "x", "a")]
    assert statuses == [400, 403, 201]
    assert emulator.segments[0].name == "A"
    assert control(emulator, "PUT", "settings", before).json() == before


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("faults", {"lost_anser": 1}, "unknown option"),
        ("faults", {"lost_answer": 2}, "must not exceed 1"),
        ("faults", {"seed": "x"}, "seed must be a whole number"),
        ("faults", {"script": "hold_after"}, "script must be an array"),
        ("faults", {"script": ["x"]}, "unknown fault"),
        ("faults", {"script": {"POST": "hold_after"}}, "script must be an array"),
        ("faults", {"script": {"DELETE": ["hold_after"]}}, "method must be one of"),
        ("faults", {"methods": [[]]}, "methods must be"),
        ("settings", {"speed": 1}, "unknown option"),
        ("settings", {"rate_limit": 0}, "rate_limit must be"),
        ("settings", {"rate_window": 0}, "rate_window must be more than 0"),
        ("settings", {"block_seconds": "x"}, "block_seconds must be a number"),
        ("settings", {"paging": "x"}, "paging must be one of"),
        ("settings", {"paging": "nested"}, "paging must be one of"),
        ("settings", {"layout": "inside"}, "layout must be one of"),
        ("settings", {"times": None}, "times must be one of"),
        ("settings", {"order": []}, "order must be one of"),
        ("settings", {"outage": "x"}, "outage must be one of"),
        ("settings", {"outage": "refuse"}, "would also refuse the request"),
        ("settings", {"unique_names": 1}, "unique_names must be"),
        ("settings", {"key": ""}, "key must be"),
        ("settings", {"taken_names": "VIP"}, "taken_names must be a list of texts"),
        ("settings", {"taken_names": [7]}, "taken_names must be a list of texts"),
        ("settings", {"taken_names": None}, "taken_names must be a list of texts"),
        ("settings", {"plan_limit": -1}, "plan_limit must be a whole number from 0"),
        ("settings", {"plan_limit": True}, "plan_limit must be a whole number from 0"),
        ("settings", {"plan_limit": 1.5}, "plan_limit must be a whole number from 0"),
        ("settings", {"blocked_text": ""}, "blocked_text must be a text"),
        ("settings", {"blocked_text": 7}, "blocked_text must be a text"),
        ("settings", {"stored_name": "lower"}, "stored_name must be one of"),
        ("settings", {"page_cap": 0}, "page_cap must be a whole number from 1"),
        ("settings", {"max_per_page": 0}, "max_per_page must be a whole number from 1"),
        ("settings", {"hide_every": "2"}, "hide_every must be a whole number from 1"),
        ("settings", {"empty_page": 0.5}, "empty_page must be a whole number from 1"),
        ("faults", {"methods": ["PATCH"], "no_content": 2}, "must not exceed 1"),
    ],
)
def test_an_invalid_change_is_a_422_and_changes_nothing(
    emulator: Emulator, path: str, body: dict[str, object], message: str
) -> None:
    before = (emulator.options, emulator.faults)
    response = control(emulator, "PUT", path, body)
    assert response.status_code == 422
    assert message in response.json()["message"]
    assert (emulator.options, emulator.faults) == before


def test_reset_restores_the_initial_state(emulator: Emulator, api: Api) -> None:
    api.create()
    emulator.set(unique_names=True, outage="hold")
    emulator.set_faults(Faults(lost_answer=1.0))
    state = control(emulator, "POST", "reset").json()
    assert (state["segments"], state["requests"]) == (0, 0)
    assert (emulator.options.unique_names, emulator.options.outage) == (False, None)
    assert emulator.options.key == "sk_test_secret"
    assert emulator.faults == Faults()


def test_a_wrong_method_is_a_405_that_lists_the_allowed_ones(emulator: Emulator) -> None:
    assert control(emulator, "GET", "reset").status_code == 405
    assert control(emulator, "POST", "faults").headers["Allow"] == "GET, PUT"
    assert control(emulator, "GET", "nothing").status_code == 404
