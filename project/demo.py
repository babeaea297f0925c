"""`make demo`: site, worker and a local stand-in for Bunce, in one terminal.

The demo ignores the settings in the environment, so it can never reach a real account or database.
Its database and messages are files in .celery/demo, recreated at each start.
"""

import argparse
import fcntl
import http.client
import os
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command

from project.processes import ProgramExited, ProgramGroup, StopRequested

BASE_DIR = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
USERNAME, PASSWORD = "admin", "bunce-demo"
SAMPLES: list[dict[str, Any]] = [
    {"name": "Newsletter readers", "description": "Subscribed to the newsletter."},
    {"name": "Everyone", "description": None, "add_all_customers": True},
]
#: Seconds to wait for the worker's first request before the welcome is shown anyway.
FIRST_SEGMENT_TIMEOUT = 20

WELCOME = """
  The site is running.

    Admin     http://{host}:{port}/admin/   (user name: {username}, password: {password})
    "Bunce"   http://{host}:{emulator_port}/   a local stand-in that starts empty
    Logs      {data}/*.log

  Try this:
    1. Log in and open Segments: the samples there have just been created in Bunce. Two of them
       are audiences of a small shop, and fill with its customers.
    2. Add a segment and save it. After a moment the list shows it as Synced, with the id, type
       and time from Bunce.
    3. Open "Bunce": it contains each segment exactly once.

  Press Ctrl-C to stop everything.
"""


def main() -> int:
    """Run the demo until the user stops it, and return the exit status."""
    options = _parse_options()
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _fail("The demo is already running in another terminal. Stop it there first.")
        ports = {"PORT": options.port, "EMULATOR_PORT": options.emulator_port}
        for variable, port in ports.items():
            if not _is_free(port):
                other_ports = ports | {variable: port + 1 if port < 65535 else port - 1}
                arguments = " ".join(f"{name}={value}" for name, value in other_ports.items())
                return _fail(
                    f"Port {port} of {HOST} is used by another program, so the demo was not"
                    f" started. Choose another port: make demo {arguments}"
                )
        try:
            _run(folder / "data", options.port, options.emulator_port)
        except ProgramExited as error:
            return _fail(f"\n{error}\nThe demo has stopped, with all its programs.")
        except StopRequested:
            _print("The demo has stopped, with all its programs.")
    return 0


def _run(data: Path, port: int, emulator_port: int) -> None:
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir()
    with ProgramGroup(logs=data) as programs:
        try:
            _start(programs, data, port, emulator_port)
            programs.wait()
        except StopRequested:
            _print("\nStopping …")
            raise


def _start(programs: ProgramGroup, data: Path, port: int, emulator_port: int) -> None:
    """Start all programs one after the other, and show the welcome."""
    env = _environment(data, emulator_port)
    manage: list[str | Path] = [sys.executable, "-u", BASE_DIR / "manage.py"]
    emulator = ["bunce_emulator", "--host", HOST, "--port", str(emulator_port)]
    celery: list[str | Path] = [sys.executable, "-u", "-m", "celery", "-A", "project"]
    worker = ["--quiet", "worker", "-B", "--concurrency", "2", "--loglevel", "WARNING"]

    _print("Preparing a database, a login and sample segments …")
    _prepare(env)
    _print("Starting the local Bunce, the worker and the web server …")
    programs.start("bunce", [*manage, *emulator], env)
    programs.wait(until=lambda: _responds(emulator_port))
    # Python's warnings would be about debug mode and about running as root.
    programs.start("worker", [*celery, *worker], env | {"PYTHONWARNINGS": "ignore"})
    programs.start("shop", [*manage, "shop_open", "--loop"], env)
    programs.start("web", [*manage, "runserver", "--noreload", f"{HOST}:{port}"], env)
    programs.wait(until=lambda: _responds(port))
    deadline = time.monotonic() + FIRST_SEGMENT_TIMEOUT
    programs.wait(until=lambda: _worker_has_begun() or time.monotonic() > deadline)
    _print(
        WELCOME.format(
            host=HOST,
            port=port,
            emulator_port=emulator_port,
            data=data,
            username=USERNAME,
            password=PASSWORD,
        )
    )


def _environment(data: Path, emulator_port: int) -> dict[str, str]:
    own = ("BUNCE_", "CELERY_", "DATABASE_", "DJANGO_")
    return {name: value for name, value in os.environ.items() if not name.startswith(own)} | {
        "BUNCE_API_KEY": "sk_test_demo",
        "BUNCE_BASE_URL": f"http://{HOST}:{emulator_port}/v1",
        "CELERY_BROKER_URL": f"filesystem://localhost{data / 'broker'}",
        "DATABASE_URL": f"sqlite:///{data / 'demo.sqlite3'}",
        "DJANGO_SETTINGS_MODULE": "project.demo_settings",
    }


def _prepare(env: dict[str, str]) -> None:
    """Create the database, the login and the samples."""
    os.environ.clear()
    os.environ.update(env)
    django.setup()
    from django.contrib.auth.models import User

    from bunce_sync.models import Segment

    call_command("migrate", verbosity=0)
    call_command("shop_open")
    User.objects.create_superuser(USERNAME, password=PASSWORD)
    for sample in SAMPLES:
        Segment.objects.create(**sample)


def _worker_has_begun() -> bool:
    from bunce_sync.models import Segment

    return Segment.objects.exclude(status=Segment.Status.PENDING).exists()


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--port", type=_port, default=8000, help="port of the site (PORT)")
    parser.add_argument(
        "--emulator-port",
        type=_port,
        default=8790,
        help="port of the local Bunce (EMULATOR_PORT)",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=BASE_DIR / ".celery" / "demo",
        help="folder for database and messages",
    )
    options = parser.parse_args()
    if options.port == options.emulator_port:
        parser.error(f"PORT and EMULATOR_PORT must differ; both are {options.port}")
    return options


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: use a number from 1 to 65535")
    return int(text)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port counts as free while its last connections are closing.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _responds(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", "/")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _fail(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
