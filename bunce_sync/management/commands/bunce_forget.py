"""``manage.py bunce_forget``: remove a customer from all segments, and never add them again."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from bunce_sync import database, services
from bunce_sync.choices import MemberStatus, Operation
from bunce_sync.customer_entries import InvalidCustomer, read_entry
from bunce_sync.management.console import (
    DONE,
    EXIT_CODES,
    FAILED,
    SyncCommand,
    counted,
    printable,
)
from bunce_sync.management.foreground import Blocked, Turn, why_customers_wait, work
from bunce_sync.models import MemberQuerySet
from bunce_sync.sync import customers
from bunce_sync.sync.budget import Budget


class Command(SyncCommand):
    """Forget a customer."""

    help = (
        "Remove a customer from all segments in Bunce, then delete what is stored here. Only a"
        " digest is kept, so that no audience adds them again. Bunce keeps the customer itself: its"
        f" API cannot delete one. {EXIT_CODES}"
    )

    def add_options(self, parser: CommandParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        add("identifier", help="customer id or email address, as the customer was added")
        add("--undo", action="store_true", help="allow the customer to be added again")

    def work(self, options: dict[str, Any]) -> int:
        """Forget, or undo it.

        Raises:
            CommandError: the identifier cannot be one.
        """
        identifier = options["identifier"]
        try:
            read_entry(identifier)
        except InvalidCustomer as error:
            raise CommandError(f"Nothing was changed: {error}.") from None
        if options["undo"]:
            return self._undo(identifier)
        found = services.forget(identifier)
        self._segments = list(found.to_remove)
        self._identifier = identifier
        blocked = ""
        try:
            with self.progress("Removing the customer") as shown:
                work(
                    self._turn,
                    lambda note: shown.update(f"{counted(len(self._left()), 'segment')} left",
                                              note=note),
                    stop=self.stop,
                    operations=lambda: {Operation.REMOVE},
                )  # fmt: skip
        except Blocked as error:
            blocked = str(error)
        left = self._left()
        reasons = {segment: why for segment in left if (why := self._why_left(segment))}
        removed = len(found.to_remove) - len(left)
        if self.json:
            self.print_json(
                {
                    "removed": removed + found.deleted,
                    "waiting": len(left),
                    "left": [
                        {"segment": segment, "reason": reasons.get(segment, "")} for segment in left
                    ],
                    "blocked": blocked,
                }
            )
            return FAILED if left else DONE
        if not found.to_remove and not found.deleted:
            self.say("The customer is in no segment here, and will not be added to one.")
            return DONE
        if removed or found.deleted:
            self.say(f"Removed from {counted(removed + found.deleted, 'segment')}.")
        if left:
            waits = "not sent yet. Workers send it" if len(reasons) < len(left) else "see below"
            self.say(
                f"Still in {counted(len(left), 'segment')} in Bunce: {blocked or f'{waits}.'}"
                " Run this command again to see that it is done."
            )
            for segment, why in reasons.items():
                self.say(f"  #{segment}: {printable(why, 500)}")
            return FAILED
        self.say("Nothing but a digest is kept here. Bunce keeps the customer: ask Bunce to delete")
        self.say("the customer there if that is needed.")
        return DONE

    def _undo(self, identifier: str) -> int:
        undone = services.unforget(identifier)
        if self.json:
            self.print_json({"undone": undone})
        elif undone:
            self.say("The customer can be added again.")
        else:
            self.say("The customer was not forgotten.")
        return DONE

    def _members(self) -> MemberQuerySet:
        """Return the members that Bunce still has to remove."""
        members = database.members().filter(segment_id__in=self._segments, wanted=False)
        entry = read_entry(self._identifier)
        spellings = {entry.identifier, str(self._identifier).strip()}
        return members.filter(identifier__in=spellings).exclude(status=MemberStatus.REMOVED)

    def _left(self) -> list[int]:
        return sorted({*self._members().values_list("segment_id", flat=True)})

    def _why_left(self, segment_id: int) -> str:
        """Return why a segment still has the customer; empty if it is about to be sent."""
        refused = self._members().filter(segment_id=segment_id, status=MemberStatus.REFUSED).first()
        if refused is not None:
            return f"Bunce refuses to remove the customer. ({refused.last_error})"
        queues = database.customer_queues().filter(sync_id=segment_id, operation=Operation.REMOVE)
        failed = queues.exclude(last_code="").first()
        if failed is not None:
            return f"Removals fail and are repeated automatically. ({failed.last_error})"
        segment = database.segments().filter(pk=segment_id).first()
        return why_customers_wait(segment) if segment else ""

    def _turn(self, budget: Budget) -> Turn:
        before = sum(budget.outcomes.values())
        for segment_id in self._left():
            customers.run_only(segment_id, budget)
        if sum(budget.outcomes.values()) > before:
            return Turn.MORE
        if all(self._why_left(segment_id) for segment_id in self._left()):
            return Turn.DONE
        return Turn.WAIT
