"""Real processes keep to the rate limit, use most of it, and yield to other programs."""

import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import requests
from django.utils import timezone

from bunce_sync.models import Segment
from bunce_sync.sync.rate_limiter import PERMIT_SECONDS, TRANSIT_SECONDS
from bunce_sync.testing.emulator import Emulator
from tests.site import API_KEY, Broker, Site

#: Bunce's limit, scaled so that a test sees several windows.
LIMIT, WINDOW = 60, 6.0
#: Length of the rate limiter's own window.
SPAN = WINDOW + PERMIT_SECONDS + TRANSIT_SECONDS
WORKERS, PROCESSES = 2, 2


@pytest.fixture
def site(
    database_access: None,
    bunce: Emulator,
    postgres_database: str,
    redis_broker: Broker,
    tmp_path: Path,
) -> Iterator[Site]:
    """A site with two workers and beat, and no segments yet."""
    bunce.set(rate_limit=LIMIT, rate_window=WINDOW, block_seconds=WINDOW)
    env = {
        "BUNCE_RATE_LIMIT": str(LIMIT),
        "BUNCE_RATE_WINDOW": str(WINDOW),
        "BUNCE_SWEEP_INTERVAL": "2",
        "BUNCE_PAGE_SIZE": "5",
    }
    with Site(tmp_path, postgres_database, redis_broker, bunce.base_url, env) as site:
        for number in range(WORKERS):
            site.start_worker(processes=PROCESSES, beat=number == 0)
        yield site


def add_backlog(site: Site, count: int) -> None:
    """Insert rows without a message; the sweep finds them."""
    site.segments.bulk_create(Segment(name=f"Segment {number}") for number in range(count))


def count_messages(site: Site) -> int:
    """Return how many messages that ask for work the workers received."""
    line = re.compile(r"Task bunce_sync\.(?:push_segment|work)\[\S+\] received")
    return sum(len(line.findall(process.output)) for process in site.processes)


def arrivals(bunce: Emulator, method: str) -> list[float]:
    """Return when requests with this method arrived at Bunce, in seconds."""
    return [request.at for request in bunce.requests if request.method == method]


def test_a_backlog_uses_the_limit_never_exceeds_it_and_needs_few_messages(
    site: Site, bunce: Emulator
) -> None:
    windows = 3
    add_backlog(site, LIMIT * (windows + 2))
    bunce.wait_for(lambda bunce: len(bunce.segments) >= LIMIT * windows, timeout=90)

    took = bunce.requests[-1].at - bunce.requests[0].at
    assert bunce.limited == 0
    assert bunce.worst_window(WINDOW) <= LIMIT
    assert took < windows * SPAN / 0.8, "at least 80 % of what the window allows"
    assert count_messages(site) <= 1.1 * bunce.served
    assert not bunce.duplicates


def test_requests_pause_while_another_program_uses_up_the_limit(
    site: Site, bunce: Emulator
) -> None:
    use_up_the_limit(bunce)
    add_backlog(site, LIMIT)
    paused = site.sync_state.filter(blocked_reason="rate_limited")
    site.wait_until(paused.exists, "the 429 has paused all requests")
    site.wait_until(
        lambda: not site.segments.filter(status="sending").exists(), "no request is open"
    )

    assert not bunce.segments
    assert not site.segments.exclude(attempts=0).exists(), "a 429 costs no row an attempt"
    site.wait_until(lambda: len(bunce.segments) == LIMIT, "all are created", seconds=60)

    assert bunce.limited <= 1 + WORKERS * PROCESSES, "one for the other program, then ours"
    created = [request.at for request in bunce.requests if request.status == 201]
    half_a_window = [at for at in created if at - created[0] < WINDOW / 2]
    assert len(half_a_window) < LIMIT / 3, "resumes at half the pace"
    site.wait_until(lambda: not site.segments.exclude(status="synced").exists(), "all are recorded")
    assert not bunce.duplicates


def use_up_the_limit(bunce: Emulator) -> None:
    """Send requests as another program at the same address until Bunce returns a 429."""
    with requests.Session() as session:
        session.headers["X-Authorization"] = API_KEY
        while session.get(f"{bunce.base_url}/segments", timeout=10).status_code != 429:
            continue


def test_a_long_list_scan_and_a_backlog_of_pushes_both_make_progress(
    site: Site, bunce: Emulator
) -> None:
    for number in range(1000):
        bunce.add_segment(f"Foreign {number}")
    add_backlog(site, LIMIT * 10)
    begun = time.monotonic()
    put_in_doubt(site)
    enough = LIMIT // 2

    def both(count: int) -> Callable[[Emulator], bool]:
        return lambda bunce: all(len(arrivals(bunce, one)) >= count for one in ("GET", "POST"))

    bunce.wait_for(both(enough), timeout=90)
    assert time.monotonic() - begun < 4 * SPAN
    assert bunce.limited == 0
    assert bunce.worst_window(WINDOW) <= LIMIT


def test_an_import_leaves_pushes_at_least_half_of_the_limit(site: Site, bunce: Emulator) -> None:
    bunce.add_segments(5000)
    site.shell("from bunce_sync import services; services.request_import()")
    bunce.wait_for(lambda bunce: len(arrivals(bunce, "GET")) >= LIMIT // 4, timeout=60)
    add_backlog(site, LIMIT * 10)
    bunce.wait_for(lambda bunce: len(arrivals(bunce, "POST")) >= LIMIT // 2, timeout=60)
    begun = time.monotonic()  # from here on both use the whole limit
    bunce.wait_for(
        lambda bunce: len([at for at in arrivals(bunce, "POST") if at > begun]) >= 2 * LIMIT,
        timeout=90,
    )
    ended = time.monotonic()
    pushes, pages = (
        len([at for at in arrivals(bunce, method) if begun < at <= ended])
        for method in ("POST", "GET")
    )
    assert pages, "the import makes progress, too"
    assert pushes >= (pushes + pages) * 0.48, (pushes, pages)
    assert bunce.limited == 0


def test_a_segment_saved_during_a_long_backlog_does_not_wait_for_it(
    site: Site, bunce: Emulator
) -> None:
    add_backlog(site, LIMIT * 10)
    bunce.wait_for(lambda bunce: len(bunce.segments) >= LIMIT, timeout=60)
    site.shell("for n in range(3): Segment.objects.create(name=f'Urgent {n}')")
    urgent = site.segments.filter(name__startswith="Urgent")
    site.wait_until(lambda: urgent.filter(status="synced").count() == 3, "they are created")
    assert site.segments.filter(status="pending").count() > LIMIT * 3, "the backlog is not finished"


def put_in_doubt(site: Site) -> None:
    """Insert a row in doubt that Bunce's list does not contain."""
    before = timezone.now() - timedelta(seconds=60)
    site.put(
        "Lost",
        status="in_doubt",
        due_at=before,
        sent_at=before,
        **Segment.digests_of({"name": "Lost", "description": None}),
    )
