"""The emulator limits requests as Bunce's page about rate limiting describes."""

from __future__ import annotations

from bunce_sync.testing.emulator import Emulator
from bunce_sync.testing.emulator.rate_limiter import RateLimiter
from tests.emulator_client import KEY, Api


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def admit(limiter: RateLimiter, address: str = "a", block: float = 60.0) -> float | None:
    return limiter.admit(address, limit=3, window=60.0, block_seconds=block)


def test_the_window_slides() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    for at in (1000.0, 1050.0, 1055.0):
        clock.now = at
        assert admit(limiter) is None
    clock.now = 1060.0  # the first has just left the window
    assert admit(limiter) is None
    clock.now = 1061.0
    assert admit(limiter) is not None


def test_an_address_over_the_limit_is_blocked_and_retries_do_not_prolong_it() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    assert [admit(limiter) for _ in range(4)] == [None, None, None, 60.0]
    clock.now += 59
    assert admit(limiter) == 1.0
    assert limiter.blocked() == {"a": 1}
    clock.now += 1
    assert limiter.blocked() == {}
    assert admit(limiter) is None
    assert limiter.limited == 2


def test_without_a_block_the_wait_lasts_until_the_window_has_room() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    for _ in range(3):
        assert admit(limiter, block=0) is None
        clock.now += 10
    assert admit(limiter, block=0) == 30.0
    clock.now += 30
    assert admit(limiter, block=0) is None


def test_each_address_has_its_own_limit() -> None:
    limiter = RateLimiter(Clock())
    assert [admit(limiter, "a") for _ in range(4)][-1] is not None
    assert admit(limiter, "b") is None


def test_the_worst_window_counts_every_request_of_one_address() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    for at, address in [(0, "a"), (30, "a"), (59, "a"), (60, "a"), (61, "b"), (100, "a")]:
        clock.now = float(at)
        limiter.admit(address, limit=2, window=60.0, block_seconds=60.0)
    assert limiter.worst_window(60) == 3  # 30, 59, 60: refused requests count too
    assert limiter.worst_window(1000) == 5
    assert limiter.recent(41) == 3  # 60, 61, 100: of both addresses


def test_requests_past_the_limit_get_429_with_the_documented_message() -> None:
    with Emulator(rate_limit=2, block_seconds=30.0) as emulator, Api(emulator) as api:
        assert [api("GET", "/segments").status_code for _ in range(2)] == [200, 200]

        refused = api("POST", "/segments", {"name": "A"})

        assert refused.status_code == 429
        assert refused.json() == {
            "success": False,
            "message": "You have reached maximum request limit.",
        }
        # At least the block, at most until the window has room.
        assert 30 <= int(refused.headers["Retry-After"]) <= 60
        assert emulator.segments == []
        assert api("GET", "/segments").status_code == 429
        assert emulator.limited == 2
        assert emulator.worst_window() == 4
        assert list(emulator.blocked) == ["127.0.0.1"]


def test_an_address_may_call_again_when_the_block_is_over() -> None:
    with (
        Emulator(rate_limit=1, rate_window=1.0, block_seconds=1.0) as emulator,
        Api(emulator) as api,
    ):
        api("GET", "/segments")
        assert api("GET", "/segments").status_code == 429
        emulator.wait_for(lambda _: api("GET", "/segments").status_code == 200)


def test_all_operations_count_together_even_failing_ones() -> None:
    with Emulator(rate_limit=4) as emulator, Api(emulator) as api:
        api("POST", "/segments", {"name": ""})
        api("GET", "/segments/seven")
        api("GET", "/unknown")
        api("DELETE", "/segments")
        assert api("GET", "/segments").status_code == 429


def test_only_authenticated_api_requests_count() -> None:
    with Emulator(rate_limit=1) as emulator, Api(emulator, "sk_live_x") as other:
        for _ in range(3):
            assert other("GET", "/segments").status_code == 401
            for path in ("/", "/health", "/control/state"):
                assert other.session.get(emulator.url + path, timeout=10).status_code == 200
        other.session.headers["X-Authorization"] = KEY
        assert other("GET", "/segments").status_code == 200


def test_the_limit_can_be_changed_at_runtime() -> None:
    with Emulator(rate_limit=None) as emulator, Api(emulator) as api:
        assert {api("GET", "/segments").status_code for _ in range(30)} == {200}
        emulator.set(rate_limit=1)
        assert [api("GET", "/segments").status_code for _ in range(2)] == [200, 429]
        emulator.set(rate_limit=None)
        assert api("GET", "/segments").status_code == 200
