"""The command that runs a local Bunce in the foreground."""

from __future__ import annotations

import errno
import json
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from bunce_sync.testing.emulator import Emulator, Faults
from bunce_sync.testing.emulator.options import (
    CHOICES,
    FAULT_NAMES,
    FAULTS_FIELDS,
    OPTIONS_FIELDS,
    check_names,
)


class Command(BaseCommand):
    """``manage.py bunce_emulator``; it uses no database."""

    help = "Run a local Bunce: same API, data in memory, faults on demand. Ctrl-C stops it."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        add = parser.add_argument
        add("--port", type=int, default=8790, help="port to listen on; 0 takes a free one")
        add("--host", default="127.0.0.1", help="address to listen on")
        add("--key", default=None, help="the only accepted API key (default: any sk_test_…)")
        add("--rate-limit", type=int, default=500, metavar="N",
            help="requests per window and address; 0 for no limit (default: 500)")  # fmt: skip
        add("--segments", type=int, default=0, metavar="N",
            help="segments to begin with, created one second apart (default: 0)")  # fmt: skip
        add("--seed", type=int, default=0, help="for the random choice of faults")
        add("--fault", action="append", default=[], metavar="NAME=PROBABILITY",
            help=f"repeatable; names: {', '.join(FAULT_NAMES)}")  # fmt: skip
        more = [
            f"{name} ({', '.join(CHOICES[name])})" if name in CHOICES else name
            for name in OPTIONS_FIELDS + FAULTS_FIELDS
            if name not in FAULT_NAMES
        ]
        add("--option", action="append", default=[], metavar="NAME=VALUE",
            help=f"repeatable; the value is JSON or text; names: {', '.join(more)}")  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until SIGINT or SIGTERM.

        Raises:
            CommandError: an option is out of range, the address is not available, or h11 is not
                installed.
        """
        values = dict(_pair(text) for text in options["option"] + options["fault"])
        faults = {name: values.pop(name) for name in FAULTS_FIELDS if name in values}
        try:
            changes = {"key": options["key"], "rate_limit": options["rate_limit"] or None, **values}
            check_names(changes, OPTIONS_FIELDS)
            emulator = Emulator(
                options["port"],
                options["host"],
                faults=Faults.from_mapping(faults),
                seed=options["seed"],
                **changes,
            )
            emulator.add_segments(options["segments"])
        except ValueError as error:
            raise CommandError(f"{error}.") from None
        stopped = threading.Event()
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, lambda *_: stopped.set())
        try:
            _start(emulator)
            self._greet(emulator)
            stopped.wait()
        finally:
            emulator.stop()
            for number, handler in before.items():
                signal.signal(number, handler)
        self.stdout.write(
            f"Stopped after {emulator.served:,} requests. "
            f"{len(emulator.segments):,} segments were in memory and are lost."
        )

    def _greet(self, emulator: Emulator) -> None:
        options, faults = emulator.options, emulator.faults.in_force()
        key = "the given key" if options.key else "any key that begins with sk_test_"
        limit = "none"
        if options.rate_limit is not None:
            limit = f"{options.rate_limit} requests in {options.rate_window:g} s"
        listed = ", ".join(f"{name} {chance:g}" for name, chance in faults.items()) or "none"
        self.stdout.write(
            f"Local Bunce is ready.\n"
            f"  front page   {emulator.url}/\n"
            f"  base URL     {emulator.base_url} with {key}\n"
            "               (BUNCE_SYNC['BASE_URL']; in the sample site BUNCE_BASE_URL)\n"
            f"  rate limit   {limit}\n"
            f"  segments     {len(emulator.segments):,}\n"
            f"  faults       {listed} (to change: PUT {emulator.url}/control/faults)\n"
            f"All data is in memory. Press Ctrl-C to stop."
        )
        self.stdout.flush()


def _start(emulator: Emulator) -> None:
    try:
        emulator.start()
    except ImportError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        where = f"port {emulator.port} on {emulator.host}"
        if error.errno == errno.EADDRINUSE:
            raise CommandError(
                f"Another program uses {where}. Stop it, or choose another port with --port."
            ) from None
        raise CommandError(f"Cannot listen on {where}: {error.strerror or error}.") from None


def _pair(text: str) -> tuple[str, object]:
    """Return name and value of ``NAME=VALUE``."""
    name, separator, value = text.partition("=")
    if not separator:
        raise CommandError(f"{text!r} has no value. Write it as NAME=VALUE.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
