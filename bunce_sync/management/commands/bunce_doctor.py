"""``manage.py bunce_doctor``: what works in this installation, what does not, and how to fix it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from bunce_sync.doctor import WORKER_SECONDS, Finding, examine
from bunce_sync.management.console import json_text, printable
from bunce_sync.sandbox_probe import NotASandbox, probe

#: Characters of a line of the report; the texts wrap within.
WIDTH: Final = 100
INDENT: Final = 18


class Command(BaseCommand):
    """Print one line for each finding; see ``bunce_sync.doctor``."""

    help = (
        "Examine this installation: settings, database, Celery, Bunce and the state of the sync."
        " Makes one request to Bunce and sends one message. Exit code 0 if nothing fails, 1 if"
        " something does, 2 if the options are wrong."
    )
    #: The checks are part of the examination; an error must not keep it from running.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--worker-seconds",
            type=float,
            default=WORKER_SECONDS,
            metavar="N",
            help="how long to wait for a worker (default: %(default)g)",
        )
        parser.add_argument(
            "--probe-sandbox",
            action="store_true",
            help="find out in a sandbox account what Bunce's documentation leaves open; creates two"
            " segments there, which Bunce cannot delete",
        )
        parser.add_argument(
            "--with-customers",
            action="store_true",
            help="with --probe-sandbox: also add and remove up to 1,000 made-up customers",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Examine, and print.

        Raises:
            CommandError: something fails, or the account is not a sandbox.
        """
        if options["probe_sandbox"]:
            findings = self._probe(with_customers=options["with_customers"])
        else:
            findings = examine(options["worker_seconds"])
        found = []
        try:
            for finding in findings:
                found.append(finding)
                if not options["json"]:
                    self._print(finding)
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(f"The database cannot be used ({type(error).__name__}).") from error
        failed = [finding for finding in found if finding.level == "fail"]
        if options["json"]:
            report = {"ok": not failed, "findings": [asdict(finding) for finding in found]}
            self.stdout.write(json_text(report, indent=2))
        if failed:
            names = ", ".join(dict.fromkeys(finding.name for finding in failed))
            raise CommandError(f"Not everything works: {names}.")

    def _probe(self, *, with_customers: bool) -> Iterator[Finding]:
        try:
            yield from probe(with_customers=with_customers)
        except NotASandbox as error:
            raise CommandError(str(error)) from error

    def _print(self, finding: Finding) -> None:
        styles: dict[str, Callable[[str], str]] = {
            "pass": self.style.SUCCESS,
            "warn": self.style.WARNING,
            "fail": self.style.ERROR,
            "skip": str,  # plain: NOTICE is red
        }
        mark = styles[finding.level](finding.level)
        [first, *others] = textwrap.wrap(printable(finding.summary, 1000), WIDTH - INDENT) or [""]
        self.stdout.write(f"{mark}  {finding.name:<{INDENT - 6}}{first}")
        if finding.fix:
            others += textwrap.wrap(
                printable(finding.fix, 1000),
                WIDTH - INDENT,
                initial_indent="→ ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        for line in others:
            self.stdout.write(" " * INDENT + line)
