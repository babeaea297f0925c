"""A site in a cell: everything it does for segments and customers, while some of it fails.

Not named like a test, because only `make matrix` runs it, for one cell at a time.
"""

import re
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from bunce_sync.models import CustomerSync, Member, Segment
from bunce_sync.testing.emulator import Emulator
from tests.integration.api_service import Service
from tests.matrix.cells import Cell
from tests.matrix.conftest import Database
from tests.site import Broker, Process, Site

#: Requests that Bunce accepts in a window of so many seconds; few, so that the limit is reached.
LIMIT, WINDOW = 5, 3.0
#: Bunce's answers to the first creates; the worker is killed while the last of them is made.
FAULTS = [None, "lost_answer", "unavailable", None, "limit_429", None]
#: Warnings of other packages that do not end a process, as in PYTHONWARNINGS.
IGNORED = (
    "ignore:You're running the worker with superuser",  # Celery, where root runs the tests
    "ignore:Call to 'get_connection' function with deprecated",  # kombu 5.3, of redis-py 5.3
    "ignore:datetime.datetime.utcfromtimestamp():DeprecationWarning:kombu.asynchronous.timer",
)
ENV = {
    "DJANGO_SETTINGS_MODULE": "tests.matrix.settings",
    "PYTHONWARNINGS": ",".join(["error", *IGNORED]),
    "BUNCE_CONNECT_TIMEOUT": "1",
    "BUNCE_READ_TIMEOUT": "1",
    "BUNCE_LEASE": "7",
    "BUNCE_GRACE": "3",
    "BUNCE_SWEEP_INTERVAL": "1",
    "BUNCE_RATE_LIMIT": str(LIMIT),
    "BUNCE_RATE_WINDOW": f"{WINDOW:g}",
}
#: A log record from the level of warnings, in the formats of Celery and of the sample site.
TROUBLE = re.compile(
    r"^(?:\[[^\]]*: (?:WARNING|ERROR|CRITICAL)/\S*\]|\S+ \S+ (?:WARNING|ERROR|CRITICAL) \S+:) (.*)",
    re.MULTILINE,
)
#: Those that are expected: what FAULTS and the kill cause, and Celery's about messages with a
#: delay, which the app does not send.
EXPECTED = re.compile(
    r"Requests to Bunce are paused for 2 s: Bunce (?:is unavailable and )?asked for a pause"
    r"|[12] segments were left by a worker that died or hangs"
    r"|Exchange celery is a direct exchange and native delayed delivery do not support direct"
)
#: Python's words for an exception and for a warning that were not handled.
UNHANDLED = re.compile(r"^.*(?:Traceback|Exception ignored|\w+Warning\b).*", re.MULTILINE)
#: Rows that a script saves, and customers that an audience has.
ROWS, USERS = 12, 40


@pytest.fixture
def site(
    database_access: None,
    cell_database: Database,
    cell_broker: Broker,
    bunce: Emulator,
    tmp_path: Path,
) -> Iterator[Site]:
    """The sample site in the cell, with the web server and beat."""
    bunce.set(rate_limit=LIMIT, rate_window=WINDOW)
    env = {**ENV, **cell_database.env, "DATABASE_URL": cell_database.url}
    with Site(tmp_path, cell_database.direct, cell_broker, bunce.base_url, env) as site:
        site.start_beat()
        site.start_web()
        yield site


def start_worker(site: Site, cell: Cell) -> Process:
    """Start a worker of the cell's pool, and wait until it is ready."""
    worker = site.start(
        "worker",
        *("-m", "celery", "-A", "tests.faults.audience_app", "worker", "--loglevel", "INFO"),
        *("--pool", cell.pool, "--hostname", f"{uuid.uuid4().hex[:8]}@%h", "--concurrency", "2"),
    )
    worker.wait_for(" ready.")
    return worker


def test_segments_and_customers_reach_bunce_exactly_once(
    cell: Cell, site: Site, bunce: Emulator
) -> None:
    service = Service(site)
    worker = start_worker(site, cell)
    kill_worker_during_a_create(bunce, worker)
    create(site, service)
    bunce.wait_for(lambda _bunce: not worker.running, timeout=60)
    start_worker(site, cell)
    wait_until_synced(site, ROWS + 1)

    imported = bunce.add_segment("Made in Bunce").id
    call(service, "POST", "imports/")
    for row in site.segments.filter(name__startswith="Row")[:3]:
        call(service, "PATCH", f"segments/{row.pk}/", {"name": f"{row.name} edited"})
    change_customers(site, bunce, service)
    site.wait_until(site.segments.filter(bunce_id=imported).exists, "the segment is imported")
    wait_until_synced(site, ROWS + 3)  # with the audience's
    under_way = site.calls.filter(outcome="under_way")
    site.wait_until(lambda: not under_way.exists(), "the last request is recorded")

    check_segments(site, bunce)
    check_customers(site, bunce)
    check_requests(site, bunce)
    check_logs(site)


def kill_worker_during_a_create(bunce: Emulator, worker: Process) -> None:
    """Let creates fail, and kill the worker with SIGKILL during the one after them."""
    bunce.script(FAULTS)
    bunce.before_next([None] * len(FAULTS) + [worker.kill], "POST")


def create(site: Site, service: Service) -> None:
    """Create a segment in the web server, and some in a script."""
    call(service, "POST", "segments/", {"name": "From the API"})
    site.shell(f"for n in range({ROWS}): Segment.objects.create(name=f'Row {{n}}')")


def call(service: Service, method: str, path: str, body: object = None) -> None:
    """Make a request to the site's REST API, which has to succeed."""
    response = service.call(method, path, json=body)
    assert response.ok, response.text


def change_customers(site: Site, bunce: Emulator, service: Service) -> None:
    """Add and remove customers by hand and through the audience."""
    segment = site.segments.get(name="From the API")
    path = f"segments/{segment.pk}/customers/"
    users = User.objects.using(site.alias)
    users.bulk_create(User(username=f"u-{number}") for number in range(USERS))
    call(service, "POST", path, {"customers": ["c-1", "c-2", "c-3"]})
    wait_for_customers(site, bunce, segment, {"c-1", "c-2", "c-3"})
    call(service, "DELETE", path, {"customers": ["c-2"]})
    users.filter(username__in=["u-0", "u-1"]).update(is_active=False)
    wait_for_customers(site, bunce, segment, {"c-1", "c-3"})


def wait_for_customers(site: Site, bunce: Emulator, by_hand: Segment, wanted: set[str]) -> None:
    """Wait until Bunce has these customers, and those of the audience, and nothing is unsent."""
    users = User.objects.using(site.alias).filter(is_active=True)
    audience = site.segments.filter(name="Active users", status="synced")
    unsent = Member.objects.using(site.alias).unsent()

    def done() -> bool:
        return (
            audience.exists()
            and not unsent.exists()
            and bunce.member_ids(str(by_hand.bunce_id)) == wanted
            and bunce.member_ids(str(audience.get().bunce_id))
            == {*users.values_list("username", flat=True)}
        )

    site.wait_until(done, "Bunce has the customers", seconds=60)


def wait_until_synced(site: Site, count: int) -> None:
    site.wait_until(
        lambda: site.segments.filter(status="synced").count() == site.segments.count() >= count,
        "all segments are synced",
        seconds=90,
    )


def check_segments(site: Site, bunce: Emulator) -> None:
    """Check that rows and segments belong to each other, one to one."""
    rows = {row.bunce_id: row.name for row in site.segments}
    stored = {one.id: one.name for one in bunce.segments}
    assert rows == stored
    assert Counter(stored.values()).most_common(1)[0][1] == 1, "a segment is in Bunce twice"
    assert sum(name.endswith(" edited") for name in stored.values()) == 3
    assert site.calls.exclude(decision="").exists(), "nothing had to be reconciled"


def check_customers(site: Site, bunce: Emulator) -> None:
    """Check that nothing about customers failed, and that each was sent once."""
    assert not CustomerSync.objects.using(site.alias).exclude(run_error="").exists()
    totals = [bunce.customer_totals(one.id) for one in bunce.segments]
    # The user of the API is a customer of the audience as well.
    assert sum(each.add_entries for each in totals) == 3 + USERS + 1
    assert sum(each.remove_entries for each in totals) == 1 + 2


def check_requests(site: Site, bunce: Emulator) -> None:
    """Check that the faults occurred, that the limit was kept, and that every request is logged."""
    wanted = Counter(name for name in FAULTS if name)
    assert bunce.injected == wanted
    assert bunce.limited == 0, "Bunce's limit was exceeded"
    assert bunce.worst_window(WINDOW) <= LIMIT
    # Of a killed worker, or in a pause, a logged request may not have left.
    assert bunce.served <= site.calls.count() <= bunce.served + 4


def check_logs(site: Site) -> None:
    """Check that no process of the site warned or failed, apart from what Bunce's faults cause."""
    for process in site.processes:
        output = process.output
        assert UNHANDLED.findall(output) == [], process.name
        trouble = [line for line in TROUBLE.findall(output) if not EXPECTED.match(line)]
        assert trouble == [], process.name
