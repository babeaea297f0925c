"""``manage.py bunce_pause``: the brake."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from bunce_sync import services
from bunce_sync.log_entries import log_for_all
from bunce_sync.management.console import DONE, EXIT_CODES, SyncCommand
from bunce_sync.management.people import add_person, find_person
from bunce_sync.management.texts import describe_pause
from bunce_sync.status import messages
from bunce_sync.status.status import get_status


class Command(SyncCommand):
    """Pause all pushes."""

    help = (
        "Pause all pushes: no segment is created or changed in Bunce until bunce_resume. Requests"
        f" under way are completed; reads and imports go on. {EXIT_CODES}"
    )
    #: A brake must work whatever else is wrong.
    requires_system_checks: list[str] = []

    def add_options(self, parser: CommandParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        add("--reason", required=True, metavar="TEXT", help="why, for everybody who asks")
        add_person(parser, by=True)
        add("--dry-run", action="store_true", help="only say what would be done")

    def work(self, options: dict[str, Any]) -> int:
        """Pause.

        Raises:
            CommandError: the reason is blank, or there is no such user.
        """
        if not options["reason"].strip():
            raise CommandError("Give a reason: --reason 'why'. Nothing was changed.")
        by, user = find_person(options)
        before = get_status()
        if not options["dry_run"]:
            services.pause(reason=options["reason"], by=by)
            log_for_all(user, messages.PAUSED_FOR, reason=options["reason"].strip())
        status = get_status()
        if self.json:
            self.print_json(
                {
                    "paused": status.pause,
                    "was_paused": before.pause is not None,
                    "dry_run": options["dry_run"],
                }
            )
        elif options["dry_run"]:
            self.say("Would pause all pushes. Nothing was changed.")
        elif status.pause is not None:
            changed = "The reason was changed. " if before.pause else ""
            self.say(f"{changed}{describe_pause(status.pause, status.now)}")
            self.say("Segments wait until `manage.py bunce_resume`.")
        return DONE
