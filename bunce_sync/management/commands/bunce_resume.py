"""``manage.py bunce_resume``: end the pause, or release what a ``no_push()`` block holds."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from bunce_sync import services
from bunce_sync.choices import Status
from bunce_sync.log_entries import log_for_all
from bunce_sync.management.console import DONE, EXIT_CODES, SyncCommand, counted, printable
from bunce_sync.management.people import add_person, find_person
from bunce_sync.management.texts import describe_hold
from bunce_sync.models import PushHold
from bunce_sync.status import messages
from bunce_sync.status.status import SyncStatus, get_status


class Command(SyncCommand):
    """Resume pushes."""

    help = (
        "End the pause of all pushes. With --hold release the segments of a no_push() block whose"
        f" process died; bunce_status shows its number. {EXIT_CODES}"
    )
    requires_system_checks: list[str] = []

    def add_options(self, parser: CommandParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        add("--hold", type=int, metavar="ID", help="release this no_push() block instead")
        add("--force", action="store_true",
            help="release it even if its process seems to be running")  # fmt: skip
        add_person(parser)
        add("--dry-run", action="store_true", help="only say what would be done")

    def work(self, options: dict[str, Any]) -> int:
        """Resume or release.

        Raises:
            CommandError: there is no such block or user, or the block's process is running.
        """
        _by, user = find_person(options)
        status = get_status()
        if options["hold"] is not None:
            return self._release(options, status, user)
        waiting = status.counts[Status.PENDING]
        resumed = status.pause is not None
        if resumed and not options["dry_run"]:
            resumed = services.resume()
            log_for_all(user, messages.RESUMED_LOG)
        if self.json:
            self.print_json({"resumed": resumed, "waiting": waiting, "dry_run": options["dry_run"]})
            return DONE
        if not resumed:
            self.say("Pushes are not paused.")
        elif options["dry_run"]:
            self.say(f"Would resume pushes; {_wait(waiting)}. Nothing was changed.")
        else:
            self.say(f"Pushes are resumed; {_wait(waiting)}.")
        for hold in status.holds:
            self.say(describe_hold(hold, status.now))
        return DONE

    def _release(self, options: dict[str, Any], status: SyncStatus, user: Any) -> int:
        """Release the segments of one block."""
        hold = next((one for one in status.holds if one.id == options["hold"]), None)
        if hold is None:
            others = ", ".join(str(one.id) for one in status.holds) or "none"
            raise CommandError(
                f"No open no_push() block is number {options['hold']}. Open: {others}."
            )
        if services.is_running(hold.process) and not options["force"]:
            raise CommandError(
                f"{printable(hold.process)} is still running, and releases its segments itself"
                " when the block ends. If it is another process by now, add --force."
            )
        count = hold.segments
        if not options["dry_run"]:
            try:
                count = services.release_hold(hold.id)
            except PushHold.DoesNotExist:
                count = 0  # the block ended meanwhile
            log_for_all(user, messages.RELEASED_LOG, process=hold.process)
        if self.json:
            self.print_json({"released": count, "hold": hold.id, "dry_run": options["dry_run"]})
        elif options["dry_run"]:
            self.say(f"Would release {counted(count, 'segment')}. Nothing was changed.")
        else:
            self.say(f"Released {counted(count, 'segment')}.")
        return DONE


def _wait(waiting: int) -> str:
    return f"{counted(waiting, 'segment')} {'waits' if waiting == 1 else 'wait'}"
