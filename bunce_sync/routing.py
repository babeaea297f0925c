"""What the site's Celery application does with this app's tasks.

Which application it is, which queue their messages go to, and which command starts a worker that
consumes it. Nothing here connects to the broker.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from celery import Celery
from celery.app import app_or_default
from celery.app.routes import Router, prepare
from celery.exceptions import QueueNotFound

from bunce_sync.conf import conf
from bunce_sync.exceptions import BunceSyncError

#: Celery's application of last resort, in a process that created none.
FALLBACK = "default"
#: Where ``celery -A package`` looks for an application.
APP_NAMES = ("app", "celery", "celery_app")
#: For -A, if the package is not known.
UNKNOWN_PACKAGE = "yourproject"
#: The commands that do the work of beat and the workers, continuously or for a cron job.
LOOP_COMMAND = "python manage.py bunce_sweep --loop"
CRON_COMMAND = "python manage.py bunce_sweep --max-seconds 50"
TASK = "bunce_sync.push_segment"
#: The name of the task that beat starts.
SWEEP = "bunce_sync.sweep"


def celery_app() -> Celery | None:
    """Return the Celery application of this process, or None if the site has not created one.

    Without one, Celery uses an application without settings, whose broker is a RabbitMQ server on
    this host.
    """
    app: Celery = app_or_default()
    configured = app.main != FALLBACK or app.conf.broker_url or app.conf.task_always_eager
    return app if configured else None


def unimported_module() -> str:
    """Return the module of a Celery application that this process did not import; empty if none.

    Celery's guide for Django puts the application into the module ``celery`` of the project.
    """
    package = os.environ.get("DJANGO_SETTINGS_MODULE", "").partition(".")[0]
    name = f"{package}.celery"
    try:
        exists = bool(package) and find_spec(name) is not None
    except (ImportError, ValueError):  # the settings are in a single module, not in a package
        return ""
    return name if exists and celery_app() is None else ""


class RoutingFailed(BunceSyncError):
    """Celery cannot say to which queue the app's tasks go."""


def known_destination(app: Celery) -> str | None:
    """Return the queue that messages go to; None if it is not known."""
    try:
        return destination(app, conf.usable("QUEUE"))
    except RoutingFailed:  # reported by a system check
        return None


def is_scheduled(app: Celery) -> bool:
    """Return whether beat's schedule has an entry for the sweep."""
    entries = (app.conf.beat_schedule or {}).values()
    names = (
        entry.get("task") if isinstance(entry, Mapping) else getattr(entry, "task", None)
        for entry in entries
    )
    return SWEEP in names


def destination(app: Celery, queue: str) -> str | None:
    """Return the queue that messages go to; None if the site routes by exchange alone.

    Args:
        app: the site's application.
        queue: the setting ``QUEUE``; if it is empty, the site's routes decide.

    Raises:
        RoutingFailed: Celery refuses the queue, or a router of the site raised an error.
    """
    # Its own set of queues: a look-up adds a missing queue, which a worker would then consume.
    queues = app.amqp.Queues(app.conf.task_queues)
    options = {"queue": queue} if queue else {}
    try:
        router = Router(prepare(app.conf.task_routes), queues, app=app)
        task: Any = app.tasks.get(TASK)
        found = router.route(options, TASK, (), {}, task).get("queue")
    except QueueNotFound as error:
        raise RoutingFailed(
            f"{str(error).rstrip('.')}, and task_create_missing_queues is off"
        ) from error
    except Exception as error:
        raise RoutingFailed(f"a router raised {type(error).__name__}") from error
    return None if found is None else str(found.name)


def worker_queues(app: Celery) -> list[str]:
    """Return the queues that a worker consumes if it is started without ``-Q``."""
    return [str(name) for name in app.amqp.Queues(app.conf.task_queues)]


def worker_command(queue: str | None) -> str:
    """Return the command that starts a worker with beat, or the sweeps if there is no Celery.

    Args:
        queue: the one that messages go to; None if unknown.
    """
    app = celery_app()
    if app is None:
        module = unimported_module()
        if module:
            return f"celery -A {module.partition('.')[0]} worker -B"
        return LOOP_COMMAND
    names = worker_queues(app)
    option = "" if queue is None or queue in names else f" -Q {','.join([*names, queue])}"
    return f"celery -A {_package(app)} worker -B{option}"


@lru_cache(maxsize=1)
def _package(app: Celery) -> str:
    """Return what ``celery -A`` needs to find the application."""
    holders = [
        name.removesuffix(".celery")
        for name, module in list(sys.modules.items())
        if any(getattr(module, "__dict__", {}).get(key) is app for key in APP_NAMES)
    ]
    return min(holders, key=len, default=app.main or UNKNOWN_PACKAGE)
