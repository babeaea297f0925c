"""The examination of an installation: settings, database, Celery, Bunce, and the sync's state.

``bunce_doctor`` prints the findings. The examination makes one request to Bunce, of a list page
with one row, through the rate limiter and the call log like every other, and sends one message.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Generic, Literal, TypeVar
from uuid import uuid4

from celery import Celery
from django.core import checks
from django.db import DatabaseError
from django.db.models import QuerySet
from django.utils import timezone
from kombu.exceptions import VersionMismatch

from bunce_sync import clocks, database, publisher, tasks
from bunce_sync.choices import Outcome, Status, Sweeper
from bunce_sync.client import BunceClient, Position, RequestRecord
from bunce_sync.conf import conf
from bunce_sync.results import Result
from bunce_sync.routing import (
    CRON_COMMAND,
    LOOP_COMMAND,
    celery_app,
    known_destination,
    unimported_module,
)
from bunce_sync.status.presenters import (
    describe_clocks,
    describe_key,
    describe_operation,
    describe_problem,
    describe_rate_limiter,
    held_back,
    start_command,
)
from bunce_sync.status.status import Sweep, SyncStatus, get_status
from bunce_sync.sync import shared_state
from bunce_sync.sync.attempt import Attempt, client
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.circuit_breaker import OperationRows
from bunce_sync.sync.rate_limiter import NoPermit
from bunce_sync.sync.reconcile import LISTS

T = TypeVar("T")
Level = Literal["pass", "warn", "fail", "skip"]

#: Seconds for a worker to take the message.
WORKER_SECONDS = 15.0
#: Seconds between two looks at the database.
POLL_SECONDS = 0.2
#: Seconds that a request may wait for its slot of the rate limit.
SLOT_SECONDS = 10.0
#: Seconds after which a row that is due counts as overdue, if that is longer than a late sweep.
OVERDUE_SECONDS = 60.0
#: The line to which each system check belongs, by its number.
CHECKED: Final = {
    "api_key": {4, 6},
    "address": {5, 18},
    "database": {8, 9, 10, 11, 12, 19, 20},
    "celery": {13, 14, 15, 16},
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was examined, one word.
        level: ``skip`` if it could not be examined.
        summary: what was found.
        fix: what to do; empty if there is nothing to do.
    """

    name: str
    level: Level
    summary: str
    fix: str = ""


def examine(worker_seconds: float = WORKER_SECONDS) -> Iterator[Finding]:
    """Yield the findings one by one, as they are made.

    Args:
        worker_seconds: how long to wait for a worker.
    """
    usable = True
    for finding in _checks():
        usable = usable and (finding.name != "settings" or finding.level != "fail")
        yield finding
    stored = _migrations()
    yield stored
    if stored.level == "fail":
        yield Finding("sync", "skip", "The other lines need the database.")
        return
    yield from _time_zones()
    before = get_status().sweep  # the request below looks like one of a worker that has started
    if usable and conf.API_KEY:
        yield from _bunce()
    else:
        yield Finding("bunce", "skip", "Bunce was not asked: the settings do not allow it.")
    yield from _workers(before, worker_seconds)
    yield from _state(get_status())


# Settings


def _checks() -> Iterator[Finding]:
    """Yield what the system checks report, or that they report nothing."""
    messages = checks.run_checks(tags=["bunce_sync"])
    lines: dict[str, list[checks.CheckMessage]] = {"settings": [], **{name: [] for name in CHECKED}}
    for message in messages:
        number = int(re.sub(r"\D", "", str(message.id).rpartition(".")[2]) or 0)
        name = next((name for name, numbers in CHECKED.items() if number in numbers), "settings")
        lines[name].append(message)
    fine = {
        "settings": "BUNCE_SYNC is valid.",
        "api_key": f"The key fits {conf.usable('ENV')}.",
        "address": "The key is only sent encrypted, or within this network.",
        "database": "The database's settings fit.",
        "celery": "Messages have a queue, and beat an entry for the sweep."
        if celery_app()
        else "This site has no Celery application, and needs none with bunce_sweep.",
    }
    for name, found in lines.items():
        for message in found:
            nothing_sent = name == "api_key"  # only a warning while a site is set up
            level: Level = "fail" if nothing_sent or message.level >= checks.ERROR else "warn"
            yield Finding(name, level, message.msg, str(message.hint or ""))
        if not found:
            yield Finding(name, "pass", fine[name])


# The database


def _migrations() -> Finding:
    try:
        missing = database.missing_migrations()
    except DatabaseError as error:
        return Finding(
            "migrations",
            "fail",
            f"The database cannot be used ({type(error).__name__}).",
            "Check that it is running and that DATABASES in the settings is right.",
        )
    if missing:
        return Finding(
            "migrations",
            "fail",
            f"{len(missing)} of the migrations the app needs are not applied: {missing[0]} …",
            "Run: python manage.py migrate",
        )
    return Finding("migrations", "pass", "All migrations are applied.")


def _time_zones() -> Iterator[Finding]:
    """Yield whether the database knows the site's time zone, if it is one that may not."""
    connection = database.connection()
    zone = timezone.get_default_timezone_name()
    if connection.vendor != "mysql" or zone == "UTC":
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONVERT_TZ('2026-01-01 00:00:00', 'UTC', %s)", [zone])
        known = cursor.fetchone()[0] is not None
    if known:
        yield Finding("time_zones", "pass", f"The database knows the time zone {zone}.")
    else:
        yield Finding(
            "time_zones",
            "warn",
            f"The database does not know the time zone {zone}. This app needs no time zones there,"
            " but date hierarchies of the site's admin do.",
            "Load its tables: mysql_tzinfo_to_sql /usr/share/zoneinfo | mysql -u root mysql",
        )


# Bunce


class Request(Attempt[T], Generic[T]):
    """A request that is not about a row of ours.

    Args:
        rows: the operation it counts as.
        path: for the call log.
        send: makes it; takes the client and the record.
    """

    reports_operation = False
    examines = True
    must_wait = True

    def __init__(
        self, rows: OperationRows, path: str, send: Callable[[BunceClient, RequestRecord], T]
    ) -> None:
        super().__init__(path)
        self.rows = rows
        self._send = send

    def send(self, record: RequestRecord) -> T:
        return self._send(client(), record)

    def result(self) -> Result:
        """Make the request and return its result; ``value`` is what the client returned.

        Raises:
            NoPermit: requests are paused.
        """
        seconds = SLOT_SECONDS + conf.request_deadline
        result = self.run(Budget(seconds, wait_seconds=SLOT_SECONDS))
        assert result is not None  # noqa: S101 - it needs no lease
        return result


NOT_REACHED: Final = {
    "dns": (
        "Check BUNCE_SYNC['BASE_URL'] and ENV, and that this host can resolve names: getent hosts"
        " {host}"
    ),
    "refused": "Check BUNCE_SYNC['BASE_URL'] and that the server runs.",
    "tls": (
        "Check this host's clock and certificates; behind a proxy that inspects TLS set"
        " REQUESTS_CA_BUNDLE to its certificate."
    ),
}
BLOCKED: Final = (
    "Check that a firewall lets this host connect to {host}, or set HTTPS_PROXY if it must use a"
    " proxy."
)


def _bunce() -> Iterator[Finding]:
    """Ask for one row of the list, and yield what that says of host, TLS, and key."""
    request = Request(
        LISTS,
        "/segments?page=1&per_page=1",
        lambda bunce, record: bunce.list_page(Position(per_page=1), record=record),
    )
    try:
        result = request.result()
    except NoPermit as denied:
        yield Finding(
            "bunce",
            "skip",
            f"Bunce was not asked: requests are paused for {denied.wait:.0f} s.",
            "See the line “limiter”, and run this again afterwards.",
        )
        return
    host = conf.base_url.split("/")[2]
    said = describe_problem(result.code) if result.code else ""
    if result.outcome == Outcome.NOT_SENT:
        fix = NOT_REACHED.get(result.code, BLOCKED).format(host=host.partition(":")[0])
        yield Finding("bunce", "fail", f"{said} {result.detail}".strip(), fix)
        yield Finding("key", "skip", "Bunce could not be asked about the key.")
        return
    if result.http_status is None:
        yield Finding(
            "bunce", "fail", said, f"Check that {host} is Bunce, and not another service or proxy."
        )
        yield Finding("key", "skip", "Bunce did not answer about the key.")
        return
    if result.code == "no_such_address":
        yield Finding(
            "bunce",
            "fail",
            f"{host} answers, but has no list of segments (404).",
            "Correct BUNCE_SYNC['BASE_URL']: the path is usually /v1.",
        )
        yield Finding("key", "skip", "This address does not check the key.")
        return
    yield Finding("bunce", "pass", f"{host} answers (in {_milliseconds(request)} ms).")
    if result.outcome == Outcome.KEY_REFUSED:
        yield Finding(
            "key",
            "fail",
            "Bunce refuses the API key (401).",
            "Set BUNCE_SYNC['API_KEY'] to a secret key of this account, from Bunce's dashboard.",
        )
    elif result.code == "forbidden":
        yield Finding("key", "fail", said, "Give the key the right to read and write segments.")
    elif result.succeeded:
        yield Finding("key", "pass", "Bunce accepts the API key.")
    else:
        yield Finding(
            "key", "warn", f"The answer does not tell. {said}", "See the call log in the admin."
        )


def _milliseconds(request: Request[T]) -> int:
    return round((request.permit.record.duration or 0) * 1000)


# Celery


def _workers(before: Sweep, seconds: float) -> Iterator[Finding]:
    """Yield whether the broker takes a message, a worker takes it from there, and beat runs."""
    app = celery_app()
    if app is None:
        yield _without_celery(before)
        return
    if app.conf.task_always_eager:
        yield Finding(
            "worker",
            "warn",
            "task_always_eager is set: requests to Bunce are made while a page is saved.",
            "Remove CELERY_TASK_ALWAYS_EAGER outside tests.",
        )
        return
    broken = _broker(app)
    yield broken or Finding("broker", "pass", f"{_broker_address(app)} accepts connections.")
    if broken:
        yield Finding("worker", "skip", "No worker can be asked without a broker.")
        return
    queue = known_destination(app)
    mark = str(uuid4())
    sent = publisher.publisher.publish(tasks.sweep, mark)
    if not sent:
        yield Finding(
            "worker",
            "fail",
            "Celery could not send a message; the log names the error.",
            "See the lines “broker” and “celery”.",
        )
        return
    began = clocks.monotonic()
    if not _comes_true(database.sync_state().filter(answered=mark), seconds):
        by_command = not before.late and before.by in (Sweeper.LOOP, Sweeper.CRON)
        yield Finding(
            "worker",
            "warn" if by_command else "fail",
            f"No worker took a message{_from(queue)} within {seconds:.0f} s"
            + (", but bunce_sweep runs." if by_command else "."),
            "If workers run, they are busy with other tasks or consume other queues (option -Q)."
            f" Else start one: {start_command(get_status())}",
        )
        yield Finding("beat", "skip", "Without a worker it cannot be told whether beat runs.")
        return
    took = clocks.monotonic() - began
    yield Finding("worker", "pass", f"A worker took a message{_from(queue)} in {took:.1f} s.")
    yield _beat(beats=not before.late and before.by == Sweeper.WORKER)


def _from(queue: str | None) -> str:
    return f" from the queue {queue!r}" if queue else ""


def _beat(*, beats: bool) -> Finding:
    """Return whether beat sends sweeps; if that is not known yet, wait for the next one."""
    if not beats:
        asked_at, interval = shared_state.now(), conf.usable("SWEEP_INTERVAL")
        # The sweep that answered is recent, so that beat's next one may do nothing.
        interval *= 1.5
        swept = database.sync_state().filter(swept_by=Sweeper.WORKER, swept_at__gt=asked_at)
        beats = _comes_true(swept, interval + 5)
    if beats:
        return Finding("beat", "pass", "Beat starts the sweeps.")
    return Finding(
        "beat",
        "fail",
        "A worker runs, but beat does not start the sweeps: segments whose message is lost wait.",
        "Start the worker with -B, or one process “celery -A … beat” for the whole site. Restart it"
        " if it runs: it waits when its clock was set back.",
    )


def _comes_true(rows: QuerySet[Any], seconds: float) -> bool:
    """Return whether there is such a row within some seconds."""
    ends = clocks.monotonic() + seconds
    while not rows.exists():
        if clocks.monotonic() > ends:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _without_celery(sweep: Sweep) -> Finding:
    if unimported_module():
        return Finding("worker", "skip", "No worker can be asked: see the line “celery”.")
    if sweep.late:
        return Finding(
            "worker",
            "fail",
            "This site has no Celery application, and bunce_sweep is not running.",
            f"Run “{LOOP_COMMAND}” as a service, or “{CRON_COMMAND}” every minute from cron.",
        )
    return Finding("worker", "pass", "bunce_sweep runs; this site has no Celery application.")


def _broker(app: Celery) -> Finding | None:
    """Return what is wrong with the broker; None if it, or one for fail-over, can be used."""
    try:
        urls = publisher.broker_urls(app)
    except Exception as error:  # noqa: BLE001 - each transport has its own errors
        return _broker_not_loaded(error)
    problems = [_broker_problem(app, url) for url in urls]
    return problems[0] if all(problems) else None


def _broker_problem(app: Celery, url: str | None) -> Finding | None:
    try:
        producer = publisher.connect(app, url)
    except Exception as error:  # noqa: BLE001 - as above
        return _broker_not_loaded(error)
    try:
        getattr(producer.connection, "default_channel")  # noqa: B009 - an attribute that connects
    except VersionMismatch as error:
        return _broker_not_loaded(error)
    except Exception as error:  # noqa: BLE001 - as above
        return Finding(
            "broker",
            "fail",
            f"{_broker_address(app)} cannot be used ({type(error).__name__}).",
            "Start the broker, or correct CELERY_BROKER_URL in the settings.",
        )
    finally:
        publisher.discard(producer)
    return None


def _broker_not_loaded(error: Exception) -> Finding:
    """Return what is wrong before any connection; the error's text may contain the password."""
    return Finding(
        "broker",
        "fail",
        f"Celery cannot load what CELERY_BROKER_URL names ({type(error).__name__}): the URL is"
        " invalid, or the Python library for this broker is missing or too old.",
        "Correct CELERY_BROKER_URL in the settings, or install the library, for Redis:"
        ' pip install "django-bunce-sync[redis]"',
    )


def _broker_address(app: Celery) -> str:
    """Return the broker's URL without its password."""
    connection = app.connection_for_write()
    return str(connection.as_uri(mask="**" if connection.password else "")).replace(":@", "")


# The sync


def _clocks(status: SyncStatus) -> Iterator[Finding]:
    """Yield which hosts have a wrong clock: this one, and those that a sweep has found so."""
    for message in describe_clocks(status):
        yield Finding("clock", "warn", f"{message.summary} {message.cause}", message.action)
    if not status.clocks:
        yield Finding(
            "clock",
            "pass",
            "This host's clock agrees with the database's, and no other is known to be wrong.",
        )


def _state(status: SyncStatus) -> Iterator[Finding]:
    """Yield what the clocks, the limiter, the operations and the rows say."""
    yield from _clocks(status)
    limiter = describe_rate_limiter(status.rate_limiter, status.now)
    if limiter:
        level: Level = "fail" if limiter.urgent else "warn"
        yield Finding("limiter", level, f"{limiter.summary} {limiter.cause}", limiter.action)
    else:
        used, limit = status.usage.used, status.usage.limit
        share = f"{used} of {limit}" if limit else f"{used}"
        seconds = f"{status.usage.seconds:g}"
        yield Finding("limiter", "pass", f"Open: {share} requests in the last {seconds} s.")
    for paused in status.operations:
        message = describe_operation(paused, status)
        level = "fail" if message.urgent else "warn"
        yield Finding("limiter", level, f"{message.summary} {message.cause}", message.action)
    if key := describe_key(status):
        yield Finding("key", "fail", f"{key.summary} {key.cause}", key.action)
    for message in held_back(status):
        yield Finding("pushes", "warn", f"{message.summary} {message.cause}", message.action)
    yield from _rows(status)
    yield from _customers(status)


def _customers(status: SyncStatus) -> Iterator[Finding]:
    """Yield what is wrong with customers; nothing on a site that has none."""
    customers, syncs = status.customers, database.customer_syncs()
    if not syncs.exists():
        return
    fine = True
    for held in customers.held:
        fine = False
        yield Finding(
            "customers",
            "warn",
            f"The audience {held.key} is held: {held.removals:,} of {held.members:,} customers"
            " would be removed.",
            f"Look at “bunce_audiences plan {held.key}”, then run “bunce_audiences confirm"
            f" {held.key}”.",
        )
    for key in customers.failed:
        fine = False
        yield Finding(
            "customers",
            "warn",
            f"The audience {key} could not be compared: its code raised an exception.",
            f"Run “bunce_audiences plan {key}” to see it.",
        )
    if customers.delayed:
        fine = False
        yield Finding(
            "customers",
            "warn",
            f"The customers of {customers.delayed:,} segments wait after repeated failures.",
            "The page of each segment in the admin shows Bunce's words.",
        )
    if customers.refused:
        fine = False
        yield Finding(
            "customers",
            "warn",
            f"Bunce refused {customers.refused:,} customers.",
            "The page of each segment in the admin lists them, with Bunce's words.",
        )
    if fine:
        yield Finding("customers", "pass", "No audience is held, and no customer is refused.")


def _rows(status: SyncStatus) -> Iterator[Finding]:
    patience = timedelta(seconds=max(OVERDUE_SECONDS, 3 * status.sweep.interval))
    waiting = database.segments().filter(status__in=(Status.PENDING, Status.IN_DOUBT))
    overdue = waiting.filter(due_at__lt=status.now - patience).count()
    if overdue:
        yield Finding(
            "rows",
            "warn",
            f"{overdue} segments have been due for more than {patience.total_seconds():.0f} s.",
            "If the lines above pass, a backlog is being sent at the pace Bunce allows.",
        )
    if refused := status.counts[Status.REJECTED]:
        yield Finding(
            "rows",
            "warn",
            f"{refused} segments need attention.",
            "The admin shows why: filter the list of segments by “Needs attention”.",
        )
    if not overdue and not refused:
        yield Finding("rows", "pass", "No segment is overdue or needs attention.")
