"""`make demo`: the whole thing on this machine, with a local Bunce, in one terminal.

Nothing of the environment's own settings is used, so that it can never reach a real account or
database: its database and its messages are in a folder of their own, .celery/demo.
"""

import argparse
import fcntl
import http.client
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command

from project.processes import Died, Foreground, Stopped

BASE_DIR = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
LOGIN = ("admin", "bunce-demo")
API_KEY = "sk_test_demo"
SAMPLES: list[dict[str, Any]] = [
    {"name": "Newsletter readers", "description": "Everybody who asked for the newsletter."},
    {"name": "Paying customers", "description": "Bought something in the last twelve months."},
    {"name": "Everyone", "description": None, "add_all_customers": True},
]
#: Seconds for the worker to take the first sample, before people are told to look.
FIRST_SEGMENT = 20
#: Requests that went well, and the icon that each browser asks for.
HUSH_WEB = re.compile(r'" [23]\d\d \d+$|/favicon\.ico')

WELCOME = """
  The site is running.

    Admin     http://{host}:{port}/admin/   (login: {login}, password: {password})
    "Bunce"   http://{host}:{emulator_port}/   a local stand-in, starts empty each time

  Try this:
    1. Log in and open Segments: the samples there have just been created in Bunce.
    2. Add a segment and save: a moment later the list shows it as Synced, with the id, type and
       time that Bunce gave it.
    3. Look at "Bunce": it holds each segment exactly once.

  Ctrl-C ends everything.
"""


RUNNING = "The demo is running already, in another terminal: end it there."


def main() -> int:
    """Run the demo until it is ended; the exit status."""
    options = _options()
    folder: Path = options.folder.resolve()
    ports = {"PORT": options.port, "EMULATOR_PORT": options.emulator_port}
    for variable, port in ports.items():
        if _is_free(port):
            continue
        if _is_running(folder):
            return _complain(RUNNING)
        others = ports | {variable: port + 1 if port < 65535 else port - 1}
        return _complain(
            f"Port {port} of {HOST} is taken by another program. Nothing was started. Choose"
            f" another: make demo {' '.join(f'{name}={value}' for name, value in others.items())}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _complain(RUNNING)
        try:
            _run(folder, options.port, options.emulator_port)
        except Died as death:
            return _complain(f"\n{death}\nSo the demo has ended, and all its other programs too.")
        except Stopped:
            _say("The demo has ended, and all its programs too.")
    return 0


def _run(folder: Path, port: int, emulator_port: int) -> None:
    shutil.rmtree(folder / "broker", ignore_errors=True)  # messages of a run that is over
    env = _environment(folder, emulator_port)
    manage: list[str | Path] = [sys.executable, "-u", BASE_DIR / "manage.py"]
    celery: list[str | Path] = [
        sys.executable,
        "-u",
        "-m",
        "celery",
        "--workdir",
        BASE_DIR,
        "-A",
        "project",
    ]
    with Foreground() as foreground, _ending_told():
        _say("Preparing a database, a login and sample segments …")
        _prepare(env)
        _say("Starting the local Bunce, the worker and the web server …")
        foreground.start(
            "bunce",
            [*manage, "bunce_emulator", "--host", HOST, "--port", str(emulator_port)],
            env,
        )
        foreground.watch(until=lambda: _answers(emulator_port))
        foreground.start(
            "worker",
            [*celery, "--quiet", "worker", "-B", "--concurrency", "2", "--loglevel", "WARNING"],
            env | {"PYTHONWARNINGS": "ignore"},  # of debug mode, and of running as root
        )
        foreground.start(
            "web", [*manage, "runserver", "--noreload", f"{HOST}:{port}"], env, HUSH_WEB
        )
        foreground.watch(until=lambda: _answers(port))
        patience = time.monotonic() + FIRST_SEGMENT
        foreground.watch(until=lambda: _something_is_sent() or time.monotonic() > patience)
        foreground.shown.set()
        login, password = LOGIN
        _say(
            WELCOME.format(
                host=HOST, port=port, emulator_port=emulator_port, login=login, password=password
            )
        )
        foreground.watch()


@contextmanager
def _ending_told() -> Iterator[None]:
    try:
        yield
    except Stopped:
        _say("\nEnding …")
        raise


def _prepare(env: dict[str, str]) -> None:
    """Migrate, make the login, and send all segments anew: the local Bunce starts empty."""
    os.environ.clear()
    os.environ.update(env)
    django.setup()
    from django.contrib.auth import get_user_model

    from bunce_sync.models import ApiCall, Segment, SyncState

    call_command("migrate", verbosity=0)
    login, password = LOGIN
    user, _ = get_user_model().objects.get_or_create(
        username=login, defaults={"is_staff": True, "is_superuser": True}
    )
    if not user.check_password(password):
        user.set_password(password)
        user.save()
    wanted: list[dict[str, Any]] = (
        list(Segment.objects.order_by("pk").values(*Segment.WANTED)) or SAMPLES
    )
    for model in (Segment, ApiCall, SyncState):
        model._default_manager.all().delete()
    for fields in wanted:
        Segment.objects.create(**fields)


def _something_is_sent() -> bool:
    from bunce_sync.models import Segment

    return Segment.objects.exclude(status=Segment.Status.PENDING).exists()


def _environment(folder: Path, emulator_port: int) -> dict[str, str]:
    ours = ("BUNCE_", "CELERY_", "DATABASE_", "DJANGO_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
        "BUNCE_API_KEY": API_KEY,
        "BUNCE_BASE_URL": f"http://{HOST}:{emulator_port}/v1",
        "CELERY_BROKER_URL": f"filesystem://localhost{folder / 'broker'}",
        "DATABASE_URL": f"sqlite:///{folder / 'demo.sqlite3'}",
        "DJANGO_SETTINGS_MODULE": "project.settings",
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--port", type=_port, default=8000, help="of the site (PORT)")
    parser.add_argument(
        "--emulator-port", type=_port, default=8790, help="of the local Bunce (EMULATOR_PORT)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=BASE_DIR / ".celery" / "demo",
        help="where database and messages are kept",
    )
    options = parser.parse_args()
    if options.port == options.emulator_port:
        parser.error(f"PORT and EMULATOR_PORT are both {options.port}; they have to differ")
    return options


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port; choose a number from 1 to 65535")
    return int(text)


def _is_running(folder: Path) -> bool:
    """Whether a demo holds the lock of the folder."""
    try:
        with (folder / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port whose last connections are still closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", "/")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _complain(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
