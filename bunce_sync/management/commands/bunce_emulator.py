"""Runs a local Bunce in the foreground, for development and for trying out failures."""

from __future__ import annotations

import argparse
import errno
import signal
import threading
from dataclasses import fields
from typing import Any, get_args

from django.core.management.base import BaseCommand, CommandError, CommandParser

from bunce_sync.testing.emulator import Emulator, Faults
from bunce_sync.testing.emulator.faults import METHODS, NAMES, RetryAfter
from bunce_sync.testing.emulator.options import Order, Paging, StoredName

# Options that the emulator or its faults take under the same name.
_EMULATOR = (
    "key", "rate_limit", "rate_window", "block_seconds", "unique_names", "taken_names",
    "plan_limit", "blocked_text", "stored_name", "paging", "page_cap", "max_per_page", "hide_every",
    "empty_page", "order", "clock_offset", "idle_seconds",
)  # fmt: skip
_FAULTS = (
    "hold_seconds", "late_seconds", "trickle_seconds", "retry_after", "retry_seconds",
    "customer_calls",
)  # fmt: skip


class Command(BaseCommand):
    """``manage.py bunce_emulator``; it uses no database."""

    help = "Runs a local Bunce: same API, in memory, with faults on demand. Ctrl-C ends it."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options; their defaults are those of ``Options`` and ``Faults``."""
        default = {field.name: field.default for field in fields(Faults)}
        add = parser.add_argument
        add("--port", type=int, default=8790, help="port to listen on; 0 takes a free one")
        add("--host", default="127.0.0.1", help="address to listen on")
        add("--key", default=None, help="the only API key to accept (any sk_test_… otherwise)")
        add("--rate-limit", type=_limit, default=500, metavar="N",
            help="requests an address may make in a window; 0 for no limit")  # fmt: skip
        add("--rate-window", type=float, default=60.0, metavar="S", help="its length in seconds")
        add("--block-seconds", type=float, default=60.0, metavar="S",
            help="how long an address is shut out once it went past the limit")  # fmt: skip
        add("--unique-names", action="store_true", help="refuse a name that is in use")
        add("--taken-name", action="append", default=[], dest="taken_names", metavar="NAME",
            help="refuse a create with this name (400), may be given several times")  # fmt: skip
        add("--plan-limit", type=int, default=None, metavar="N",
            help="refuse creates once so many segments are stored (403)")  # fmt: skip
        add("--blocked-text", default=None, metavar="TEXT",
            help="refuse names that contain it, with a page of HTML (403)")  # fmt: skip
        add("--stored-name", choices=get_args(StoredName), default="as_sent",
            help="how names are stored")  # fmt: skip
        add("--paging", choices=get_args(Paging), default="page", help="style of lists")
        for name, text in (
            ("page-cap", "rows a page has at most, whatever per_page says"),
            ("max-per-page", "refuse a greater per_page (422)"),
            ("hide-every", "leave every N-th segment out of lists, so that pages come short"),
            ("empty-page", "number of a page that comes empty although rows follow"),
        ):
            add(f"--{name}", type=int, default=None, metavar="N", help=text)
        add("--order", choices=get_args(Order), default="newest", help="order of lists")
        add("--clock-offset", type=float, default=0.0, metavar="S",
            help="seconds added to the times in answers")  # fmt: skip
        add("--idle-seconds", type=float, default=None, metavar="S",
            help="close a connection unused for so long")  # fmt: skip
        add("--seed", type=int, default=0, help="for the chance of the faults")
        add("--fault", action="append", default=[], type=_fault, metavar="NAME=PROBABILITY",
            help=f"may be given several times; names: {', '.join(NAMES)}")  # fmt: skip
        add("--fault-method", action="append", choices=METHODS, metavar="METHOD",
            help="method that suffers faults, may be given several times (POST)")  # fmt: skip
        add("--customer-calls", action="store_true", help="calls about customers suffer too")
        for name in ("hold_seconds", "late_seconds", "trickle_seconds"):
            add(f"--{name.replace('_', '-')}", type=float, default=default[name], metavar="S",
                help=f"for the faults of that kind ({default[name]})")  # fmt: skip
        add("--retry-after", choices=get_args(RetryAfter), default="seconds",
            help="what limit_429 and unavailable say in Retry-After")  # fmt: skip
        add("--retry-seconds", type=int, default=default["retry_seconds"], metavar="S",
            help="the wait it tells")  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until a signal comes.

        Raises:
            CommandError: an option is out of range, or the address cannot be had.
        """
        try:
            faults = Faults(
                **dict(options["fault"]),
                **{name: options[name] for name in _FAULTS},
                methods=frozenset(options["fault_method"] or ["POST"]),
            )
            emulator = Emulator(
                options["port"],
                options["host"],
                faults=faults,
                seed=options["seed"],
                **{name: options[name] for name in _EMULATOR},
            )
        except ValueError as error:
            raise CommandError(f"{error}.") from None
        ended = threading.Event()
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, lambda *_: ended.set())
        try:
            _start(emulator)
            self._greet(emulator)
            ended.wait()
        finally:
            emulator.stop()
            for number, handler in before.items():
                signal.signal(number, handler)
        self.stdout.write(
            f"Stopped after {emulator.served:,} requests; "
            f"{len(emulator.segments):,} segments are gone with it."
        )

    def _greet(self, emulator: Emulator) -> None:
        options, faults = emulator.options, emulator.faults.in_force()
        key = "the key you named" if options.key else "any key that begins with sk_test_"
        limit = "no limit"
        if options.rate_limit is not None:
            limit = f"{options.rate_limit} requests in {options.rate_window:g} s"
        listed = ", ".join(f"{name} {chance:g}" for name, chance in faults.items()) or "none"
        self.stdout.write(
            f"Local Bunce is ready.\n"
            f"  look at it   {emulator.url}/\n"
            f"  connect to   {emulator.base_url} with {key}\n"
            "               (BUNCE_SYNC['BASE_URL']; in the sample site BUNCE_BASE_URL)\n"
            f"  rate limit   {limit}\n"
            f"  faults       {listed} (change: PUT {emulator.url}/control/faults)\n"
            f"Everything is kept in memory. Ctrl-C ends it."
        )
        self.stdout.flush()


def _start(emulator: Emulator) -> None:
    try:
        emulator.start()
    except OSError as error:
        where = f"port {emulator.port} on {emulator.host}"
        if error.errno == errno.EADDRINUSE:
            raise CommandError(
                f"Another program already uses {where}: stop it, or choose with --port."
            ) from None
        raise CommandError(f"Cannot listen on {where}: {error.strerror or error}.") from None


def _limit(text: str) -> int | None:
    try:
        return int(text) or None
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _fault(text: str) -> tuple[str, float]:
    name, _, chance = text.partition("=")
    if name not in NAMES:
        raise argparse.ArgumentTypeError(f"no such fault: {name!r}; known: {', '.join(NAMES)}")
    try:
        return name, float(chance)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} needs a probability from 0 to 1, like {name}=0.05"
        ) from None
