"""The site's Celery application: which one it is, where messages go, and what starts a worker."""

from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from celery import Celery
from celery.beat import ScheduleEntry
from celery.schedules import schedule
from django.core import checks
from kombu import Queue
from pytest_django import Settings

from bunce_sync.routing import SWEEP, RoutingFailed, destination, worker_command, worker_queues
from bunce_sync.tasks import push_segment

from .core import configure

ROOT = Path(__file__).parents[2]
OWN_ROUTE = {"bunce_sync.*": {"queue": "sync"}}
LISTED = [Queue("celery"), Queue("mail")]


def application(**conf: Any) -> Celery:
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update(conf)
    return app


# Where messages go


@pytest.mark.parametrize(
    ("conf", "setting", "queue"),
    [
        ({}, "", "celery"),
        ({"task_default_queue": "jobs"}, "", "jobs"),
        ({"task_routes": OWN_ROUTE}, "", "sync"),
        ({"task_routes": OWN_ROUTE}, "bunce", "bunce"),
        ({"task_queues": LISTED}, "mail", "mail"),
        ({"task_routes": {"bunce_sync.*": {"exchange": "x", "routing_key": "y"}}}, "", None),
    ],
)
def test_the_setting_comes_first_then_the_sites_routes(
    conf: dict[str, Any], setting: str, queue: str | None
) -> None:
    assert destination(application(**conf), setting) == queue


def test_a_queue_that_celery_may_not_create_is_an_error() -> None:
    app = application(task_create_missing_queues=False)
    with pytest.raises(RoutingFailed, match="task_create_missing_queues is off"):
        destination(app, "bunce")


def test_looking_up_a_queue_does_not_make_a_worker_consume_it() -> None:
    app = application()
    assert destination(app, "bunce") == "bunce"
    assert [*app.amqp.queues] == worker_queues(app) == ["celery"]


# Beat's schedule


def tasks_that_beat_starts(app: Celery) -> list[tuple[str, float, float | None]]:
    app.finalize()
    return [
        (
            entry["task"],
            getattr(entry["schedule"], "seconds", entry["schedule"]),
            entry.get("options", {}).get("expires"),
        )
        for entry in app.conf.beat_schedule.values()
    ]


def test_every_application_has_the_sweep_in_its_schedule(settings: Settings) -> None:
    configure(settings, SWEEP_INTERVAL=4)
    mine = {"mail": {"task": "mail", "schedule": 60, "options": {"expires": 9}}}
    app = application(beat_schedule=mine)
    assert tasks_that_beat_starts(app) == [("mail", 60, 9), (SWEEP, 4, None)]
    assert [*mine] == ["mail"], "the site's own dict is not changed"


def test_an_entry_of_the_site_is_left_as_it_is() -> None:
    mine = {"often": {"task": SWEEP, "schedule": 1, "options": {"expires": 1}}}
    assert tasks_that_beat_starts(application(beat_schedule=mine)) == [(SWEEP, 1, 1)]


def test_the_sweep_is_due_at_once_when_the_clock_of_beats_host_was_set_back() -> None:
    app = application()
    app.finalize()
    stored = pickle.dumps(app.conf.beat_schedule[SWEEP]["schedule"])  # as beat's file has it
    entry = ScheduleEntry(app=app, task=SWEEP, schedule=pickle.loads(stored))  # noqa: S301
    just_now = entry.default_now()
    for last_run, due in ((-11, True), (-4, False), (0.5, False), (60, True), (86400, True)):
        entry.last_run_at = just_now + timedelta(seconds=last_run)
        is_due, following = entry.is_due()
        assert (is_due, 0 < following <= 11) == (due, True), last_run


@pytest.mark.parametrize("interval", ["often", -1, 0])
def test_an_invalid_interval_does_not_keep_workers_from_starting(
    settings: Settings, interval: object
) -> None:
    settings.BUNCE_SYNC = {"SWEEP_INTERVAL": interval}
    assert tasks_that_beat_starts(application()) == [(SWEEP, 10, None)]


# The checks


def found() -> list[tuple[str, str, str]]:
    """Return id, text and hint of the messages about Celery."""
    messages = checks.run_checks(tags=["bunce_sync"])
    wanted = {f"bunce_sync.W0{number}" for number in (13, 14, 15, 16)}
    return [(str(m.id)[-4:], m.msg, str(m.hint)) for m in messages if m.id in wanted]


def test_the_sample_site_has_no_problem_with_celery() -> None:
    assert found() == []


def test_a_queue_that_celery_refuses_is_reported(site_app: Celery, settings: Settings) -> None:
    configure(settings, QUEUE="bunce")
    site_app.conf.update(task_queues=LISTED, task_create_missing_queues=False)
    [(code, text, hint)] = found()
    assert (code, "'bunce'" in text) == ("W014", True)
    assert hint.startswith("Add the queue to CELERY_TASK_QUEUES, use one of 'celery', 'mail',")


def test_a_route_to_a_queue_that_celery_refuses_is_reported(site_app: Celery) -> None:
    site_app.conf.update(task_routes=OWN_ROUTE, task_create_missing_queues=False)
    [(code, text, _hint)] = found()
    assert (code, "'sync'" in text) == ("W014", True)


def test_a_route_that_the_setting_overrides_is_reported(
    site_app: Celery, settings: Settings
) -> None:
    configure(settings, QUEUE="bunce")
    site_app.conf.update(task_routes=OWN_ROUTE)
    [(code, text, _hint)] = found()
    assert (code, "'bunce'" in text, "'sync'" in text) == ("W015", True, True)


def test_a_schedule_that_lost_the_sweep_is_reported(site_app: Celery) -> None:
    site_app.conf.beat_schedule = {"mail": {"task": "mail", "schedule": 60}}
    [(code, text, _hint)] = found()
    assert (code, SWEEP in text) == ("W016", True)


def by_task(
    name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **more: Any
) -> dict[str, str]:
    """Route by the task itself, as a site may."""
    return {"queue": task.name.split(".")[0]}


def without_a_tenant(*args: Any, **kwargs: Any) -> None:
    raise RuntimeError("no tenant")


def test_a_router_gets_the_task() -> None:
    assert destination(application(task_routes=[by_task]), "") == "bunce_sync"


@pytest.mark.parametrize("router", [without_a_tenant, "nothing.of.the.kind"])
def test_a_router_that_fails_is_reported(site_app: Celery, router: Any) -> None:
    site_app.conf.update(task_routes=[router])
    [(code, text, hint)] = found()
    assert (code, "a router raised" in text, "CELERY_TASK_ROUTES" in hint) == ("W014", True, True)


@pytest.mark.parametrize(
    "entries", [None, {"own": ScheduleEntry(name="own", task=SWEEP, schedule=schedule(5))}]
)
def test_any_schedule_that_beat_accepts_is_accepted(entries: Any) -> None:
    app = application(beat_schedule=entries)
    app.finalize()
    [entry] = app.conf.beat_schedule.values()
    assert (getattr(entry, "task", None) or entry["task"]) == SWEEP


# Messages follow


@pytest.mark.django_db
def test_a_message_takes_the_sites_route(site_app: Celery, settings: Settings) -> None:
    configure(settings, QUEUE="")
    site_app.conf.update(task_routes=OWN_ROUTE)
    site_app.amqp.flush_routes()
    site_app.amqp.__dict__.pop("router", None)
    with site_app.connection_for_read() as connection, connection.SimpleQueue("sync") as queue:
        queue.clear()
        push_segment.apply_async((7,))
        message = queue.get(timeout=5)
        message.ack()
    assert message.headers["task"] == push_segment.name


# Sites of all kinds, each in a process of its own

SETTINGS = """
SECRET_KEY = "k"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "bunce_sync"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
USE_TZ = True
BUNCE_SYNC = {"API_KEY": "sk_live_1"}
"""
CELERY = """
from celery import Celery
app = Celery("anything", broker="memory://")
app.config_from_object("django.conf:settings", namespace="CELERY")
"""
IMPORTED = "from .celery import app as celery_app"
COMMAND = """
from bunce_sync.status.presenters import start_command
from bunce_sync.status.status import Sweep, SyncStatus
status = SyncStatus.__new__(SyncStatus)
object.__setattr__(status, "sweep", Sweep(None, None, True, 10.0))
print(start_command(status))
"""


def run(folder: Path, code: str, **modules: str) -> str:
    """Run code in a new site ``shop`` with these modules, and return what it prints."""
    package = folder / "shop"
    package.mkdir()
    for name, text in {"__init__": "", "settings": SETTINGS, **modules}.items():
        (package / f"{name}.py").write_text(text)
    start = "import django; django.setup()\n"
    done = subprocess.run(
        [sys.executable, "-c", start + dedent(code)],
        cwd=folder,
        env={"PYTHONPATH": f"{folder}:{ROOT}", "DJANGO_SETTINGS_MODULE": "shop.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("modules", "command"),
    [
        ({"celery": CELERY, "__init__": IMPORTED}, "celery -A shop worker -B"),
        ({"celery": CELERY}, "celery -A shop worker -B"),
        ({}, "python manage.py bunce_sweep --loop"),
        ({"jobs": CELERY, "__init__": "from . import jobs"}, "celery -A shop.jobs worker -B"),
        (
            {
                "celery": CELERY,
                "__init__": IMPORTED,
                "settings": SETTINGS + "BUNCE_SYNC['QUEUE'] = 'bunce'",
            },
            "celery -A shop worker -B -Q celery,bunce",
        ),
        (
            {
                "celery": CELERY,
                "__init__": IMPORTED,
                "settings": SETTINGS + f"CELERY_TASK_ROUTES = {OWN_ROUTE}",
            },
            "celery -A shop worker -B -Q celery,sync",
        ),
    ],
    ids=["as_in_the_guide", "not_imported", "no_celery", "elsewhere", "own_queue", "own_route"],
)
def test_the_command_fits_the_site(tmp_path: Path, modules: dict[str, str], command: str) -> None:
    assert run(tmp_path, COMMAND, **modules) == command


CHECK = """
from django.core import checks
for message in checks.run_checks():
    if "W013" in message.id:
        print(message.msg, message.hint)
"""


def test_an_application_that_is_not_imported_is_reported(tmp_path: Path) -> None:
    printed = run(tmp_path, CHECK, celery=CELERY)
    assert printed.startswith("shop does not import the Celery application in shop.celery")
    assert printed.endswith("Add to shop/__init__.py: from .celery import app as celery_app")


def test_a_site_without_celery_is_not_asked_for_it(tmp_path: Path) -> None:
    assert run(tmp_path, CHECK) == ""


def test_a_save_in_a_site_without_celery_does_not_look_for_a_broker(tmp_path: Path) -> None:
    code = """
        import socket
        def refuse(*args, **kwargs): raise SystemExit("a connection was opened")
        socket.socket.connect = refuse
        from django.core.management import call_command
        call_command("migrate", verbosity=0)
        from bunce_sync.models import Segment
        print(Segment.objects.create(name="VIP").status)
    """
    assert run(tmp_path, code) == "pending"


def test_the_command_without_a_known_queue_names_none() -> None:
    assert worker_command(None) == "celery -A project worker -B"
