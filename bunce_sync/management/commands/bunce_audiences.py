"""``manage.py bunce_audiences``: what the site's audiences are, do and wait for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, Final

from django.core.management.base import CommandError, CommandParser

from bunce_sync import audiences, database, services
from bunce_sync.audiences import Audience
from bunce_sync.choices import Operation, Status
from bunce_sync.log_entries import log_for_segment
from bunce_sync.management.console import (
    DONE,
    EXIT_CODES,
    FAILED,
    TO_DO,
    Progress,
    SyncCommand,
    counted,
    number,
    printable,
    quoted,
)
from bunce_sync.management.foreground import Blocked, Turn, why_customers_wait, work
from bunce_sync.management.people import add_person, find_person
from bunce_sync.management.texts import message_lines
from bunce_sync.models import CustomerSync, Segment
from bunce_sync.status import messages
from bunce_sync.status.customers import SegmentCustomers, count_customers, customers_of
from bunce_sync.status.presenters import format_time
from bunce_sync.sync import audience_runs, customers, push, refresh
from bunce_sync.sync.audience_runs import AudienceFailed, Difference
from bunce_sync.sync.budget import Budget

#: What is counted, and the words for it.
WORDS: Final = {
    "add": "to add",
    "change": "to update",
    "remove": "to remove",
    "unchanged": "unchanged",
    "suppressed": "suppressed",
    "forgotten": "forgotten",
    "unusable": "without a usable identifier",
}
SIGNS: Final = {"add": "+", "change": "~", "remove": "-"}
NEEDS_KEY: Final = ("plan", "sync", "confirm", "resync")


class Interrupted(Exception):
    """A signal came during a comparison."""


class Command(SyncCommand):
    """Do one of several things with audiences."""

    help = (
        "list: the audiences and how many customers they have. plan KEY: whom a comparison would"
        " add, update and remove. sync KEY: compare and send now, until all is done. confirm KEY:"
        " let held removals happen, or discard them with --drop. resync KEY: tell Bunce all"
        f" customers again. {EXIT_CODES} plan ends with 3 if there is something to do."
    )

    def add_options(self, parser: CommandParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        add("action", nargs="?", default="list", choices=("list", *NEEDS_KEY))
        add("key", nargs="?", metavar="KEY", help="of an audience, as in the list")
        add("--drop", action="store_true", help="with confirm: discard the held removals")
        add("--yes", action="store_true", help="do not ask")
        add_person(parser)

    def work(self, options: dict[str, Any]) -> int:
        """Do what is asked for.

        Raises:
            CommandError: there is no such audience, or it could not be done.
        """
        action = options["action"]
        if action == "list":
            return self._list()
        audience = _find(action, options["key"])
        match action:
            case "plan":
                return self._plan(audience)
            case "sync":
                return self._sync(audience)
            case "confirm":
                return self._confirm(audience, options)
        return self._resync(audience, options)

    # list

    def _list(self) -> int:
        syncs = database.customer_syncs().exclude(key=None).select_related("segment")
        by_key: dict[str, CustomerSync] = {str(sync.key): sync for sync in syncs}
        counted_members = count_customers([sync.pk for sync in by_key.values()])
        classes = {one.get_key(): one for one in audiences.all_audiences()}
        now = services.database_time()
        values = []
        for key in sorted({*by_key, *classes}):
            audience, sync = classes.get(key), by_key.get(key)
            counts = counted_members.get(sync.pk) if sync else None
            values.append(
                {
                    "key": key,
                    "name": str(audience.name) if audience else sync.segment.name if sync else "",
                    "segment": sync.pk if sync else None,
                    "bunce_id": sync.segment.bunce_id if sync else None,
                    "members": counts.members if counts else 0,
                    "in_bunce": counts.in_bunce if counts else 0,
                    "to_add": counts.to_add if counts else 0,
                    "to_remove": counts.to_remove if counts else 0,
                    "refused": counts.refused if counts else 0,
                    "held": bool(sync and sync.held_at),
                    "held_removals": sync.held_removals if sync and sync.held_at else 0,
                    "maintained": audience is not None,
                    "interval": _seconds(audience),
                    "compared_at": sync.last_run_at if sync else None,
                    "next_at": sync.next_run_at if sync and audience else None,
                    "error": sync.run_error if sync else "",
                }
            )
        if self.json:
            self.print_json(values)
            return DONE
        if not values:
            self.say(
                "No audiences. Write a class in the audiences.py of one of your apps; see"
                " docs/audiences.md."
            )
        for value in values:
            self._print_audience(value, now)
        return DONE

    def _print_audience(self, value: dict[str, Any], now: Any) -> None:
        self.say(f"{value['key']}  {quoted(value['name'])}")
        parts = [counted(value["members"], "customer")]
        for name, words in (
            ("to_add", "waiting to be sent"),
            ("to_remove", "waiting to be removed"),
            ("refused", "refused by Bunce"),
        ):
            if value[name]:
                parts.append(f"{number(value[name])} {words}")
        self.say(f"  {', '.join(parts)}")
        if value["compared_at"] is None:
            compared = "not compared yet"
        else:
            compared = f"compared {format_time(value['compared_at'], now)}"
        if not value["maintained"]:
            compared += "; its class is gone, so it is no longer maintained"
        elif value["next_at"] is not None:
            compared += f", next {format_time(max(value['next_at'], now), now)}"
        elif value["interval"] is None:
            compared += ", only on demand"
        self.say(f"  {compared}")
        if value["error"]:
            self.say(self.style.ERROR(f"  The last comparison failed: {value['error']}"))
        if value["held"]:
            self.say(
                self.style.WARNING(
                    f"  Held: {counted(value['held_removals'], 'removal')} to confirm with"
                    f" `manage.py bunce_audiences confirm {value['key']}`"
                )
            )

    # plan

    def _plan(self, audience: Audience) -> int:
        with self.progress(f"Comparing {audience.get_key()}") as shown:
            difference = _compared(lambda: audience_runs.plan(audience, progress=self._show(shown)))
        if difference is None:
            return FAILED
        self._print_difference(audience, difference)
        changes = any(difference.counts[kind] for kind in SIGNS)
        return TO_DO if changes else DONE

    def _print_difference(self, audience: Audience, difference: Difference) -> None:
        counts = difference.counts
        if self.json:
            self.print_json(
                {
                    "key": audience.get_key(),
                    **{kind: counts[kind] for kind in WORDS},
                    "held": difference.held,
                    "examples": difference.examples,
                }
            )
            return
        for kind, sign in SIGNS.items():
            for identifier in difference.examples[kind]:
                self.say(f"{sign} {printable(identifier)}")
            if more := counts[kind] - len(difference.examples[kind]):
                self.say(f"{sign} … and {number(more)} more {WORDS[kind]}")
        parts = [f"{number(counts[kind])} {words}" for kind, words in WORDS.items() if counts[kind]]
        self.say(f"{audience.get_key()}: {', '.join(parts) or 'nobody'}.")
        if difference.held:
            self.say(
                self.style.WARNING(
                    "The removals would be held until a person confirms them: they are more than"
                    " the audience allows within 24 hours, or everybody."
                )
            )

    def _show(self, shown: Progress) -> Callable[[Counter[str]], None]:
        def show(counts: Counter[str]) -> None:
            if self.stop.is_set():
                raise Interrupted
            read = sum(counts[kind] for kind in ("add", "change", "unchanged"))
            shown.update(f"{counted(read, 'customer')} read")

        return show

    # sync

    def _sync(self, audience: Audience) -> int:
        run = _SyncRun(audience)
        blocked = ""
        with self.progress(f"Syncing {audience.get_key()}") as shown:
            difference = _compared(
                lambda: audience_runs.compare(audience, progress=self._show(shown))
            )

            def show(note: str) -> None:
                done, total = run.figures()
                text = f"{number(done)} of {counted(total, 'customer')} sent"
                shown.update(text, done=done, total=total, note=note or run.note)

            try:
                done = not self.stop.is_set() and work(
                    run.turn, show, stop=self.stop, operations=run.operations
                )
            except Blocked as error:
                blocked, done = str(error), False
        return self._report(audience, difference, run, blocked=blocked, done=done)

    def _report(
        self,
        audience: Audience,
        difference: Difference | None,
        run: _SyncRun,
        *,
        blocked: str,
        done: bool,
    ) -> int:
        segment = run.segment()
        status = customers_of(segment)
        if status is None:
            raise CommandError("The segment was deleted meanwhile.")
        failed = not done or bool(blocked) or bool(status.counts.refused) or status.held is not None
        code = FAILED if failed else DONE
        counts = difference.counts if difference else Counter[str]()
        if self.json:
            self.print_json(
                {
                    "key": audience.get_key(),
                    "segment": segment.pk,
                    "bunce_id": segment.bunce_id,
                    "added": counts["add"],
                    "updated": counts["change"],
                    "removed": counts["remove"],
                    "members": status.counts.members,
                    "in_bunce": status.counts.in_bunce,
                    "waiting": status.counts.waiting,
                    "refused": status.counts.refused,
                    "held": status.held or 0,
                    "bunce_counts": status.bunce_count,
                    "requests": run.requests,
                    "problems": [one.summary for one in status.problems],
                    "blocked": blocked,
                    "interrupted": self.stop.is_set(),
                }
            )
            return code
        self._print_result(audience, status, counts, run)
        if blocked:
            self.say(blocked)
        if self.stop.is_set():
            self.say("Interrupted. Workers do what is left.")
        return code

    def _print_result(
        self, audience: Audience, status: SegmentCustomers, counts: Counter[str], run: _SyncRun
    ) -> None:
        changes = [
            f"{number(counts[kind])} {word}"
            for kind, word in (("add", "added"), ("change", "updated"), ("remove", "removed"))
            if counts[kind]
        ]
        self.say(
            f"{audience.get_key()}: {', '.join(changes) or 'no change'};"
            f" {counted(run.requests, 'request')}."
        )
        in_bunce = f"In Bunce: {counted(status.counts.in_bunce, 'customer')}"
        if status.counts.waiting:
            in_bunce += f"; {number(status.counts.waiting)} waiting"
        self.say(f"{in_bunce}.")
        for problem in status.problems:
            first, *others = message_lines(problem)
            self.say(self.style.WARNING(first))
            for line in others:
                self.say(line)

    # confirm, resync

    def _confirm(self, audience: Audience, options: dict[str, Any]) -> int:
        _by, user = find_person(options)
        sync = _sync_of(audience)
        if sync is None or sync.held_at is None:
            raise CommandError(f"{audience.get_key()} is not held: there is nothing to confirm.")
        shown = sync.held_removals
        drop = options["drop"]
        number_of = counted(shown, "customer")
        self.say(f"{number_of} of {number(sync.held_members)} would be removed.")
        question = "Discard these removals?" if drop else "Remove them from the segment?"
        if not options["yes"] and not self.confirm(question):
            self.say("Nothing was changed.")
            return FAILED
        try:
            if drop:
                services.drop_removals(sync.segment, shown=shown)
            else:
                services.confirm_removals(sync.segment, shown=shown)
        except services.RemovalsChanged:
            raise CommandError(
                "Nothing was changed: the held removals are not those shown any more. Look again."
            ) from None
        text = messages.REMOVALS_DROPPED_LOG if drop else messages.REMOVALS_CONFIRMED_LOG
        log_for_segment(user, sync.segment, text, number=shown)
        if self.json:
            self.print_json({"key": audience.get_key(), "removals": shown, "confirmed": not drop})
        elif drop:
            self.say("Discarded. The next comparison finds them again if they are still missing.")
        else:
            self.say(
                "Confirmed. A worker compares the audience again, and removes them if they are no"
                f" more than {number(shown)} by then."
            )
        return DONE

    def _resync(self, audience: Audience, options: dict[str, Any]) -> int:
        sync = _sync_of(audience)
        if sync is None:
            raise CommandError(f"{audience.get_key()} has no segment yet: sync it first.")
        members = count_customers([sync.pk])[sync.pk].members
        if not options["yes"]:
            question = f"Tell Bunce {counted(members, 'customer')} again?"
            if not self.confirm(question):
                self.say("Nothing was changed.")
                return FAILED
        resent = services.resync_customers(sync.segment)
        if self.json:
            self.print_json({"key": audience.get_key(), "customers": resent})
        else:
            self.say(
                f"{counted(resent, 'customer')} will be sent again by workers, or at once by"
                f" `manage.py bunce_audiences sync {audience.get_key()}`."
            )
        return DONE


class _SyncRun:
    """The work of ``sync`` after the comparison."""

    def __init__(self, audience: Audience) -> None:
        self.audience = audience
        self.requests = 0
        self.note = ""
        self._total = 0
        self._refreshed = False

    def segment(self) -> Segment:
        """Return the segment of the audience.

        Raises:
            CommandError: it was deleted.
        """
        sync = _sync_of(self.audience)
        if sync is None:
            raise CommandError("The segment of the audience does not exist any more.")
        return sync.segment

    def turn(self, budget: Budget) -> Turn:
        """Push the segment, send customers, and refresh the segment at the end."""
        sync = _sync_of(self.audience)
        if sync is None:
            raise CommandError("The segment of the audience does not exist any more.")
        segment = sync.segment
        if sync.run_token is not None:
            self.note = "another process compares the audience"
            return Turn.WAIT
        before = sum(budget.outcomes.values())
        if segment.status == Status.PENDING:
            push.run_only([segment.pk], budget)
        customers.free_leases()
        customers.run_only(segment.pk, budget)
        sent = sum(budget.outcomes.values()) - before
        self.requests += sent
        self.note = ""
        if sent:
            return Turn.MORE
        if self._left():
            if why := why_customers_wait(self.segment()):
                raise Blocked(why)
            return self._wait(sync)
        if not self._refreshed and segment.bunce_id is not None:
            refresh.refresh(segment, budget)
            self.requests += sum(budget.outcomes.values())
            self._refreshed = True
        return Turn.DONE

    def _wait(self, sync: CustomerSync) -> Turn:
        """Return whether it is worth waiting for the customers that are left."""
        members = database.members().filter(segment_id=sync.pk)
        if sync.held_at is not None and not members.unsent().filter(wanted=True).exists():
            return Turn.DONE
        queues = sync.queues.exclude(last_code="")
        if queues.exists():
            return Turn.DONE  # told with its cause; workers try again
        if members.filter(late_until__isnull=False).unsent().exists():
            self.note = "some customers wait until a lost request can no longer take effect"
        return Turn.WAIT

    def _left(self) -> int:
        sync = _sync_of(self.audience)
        if sync is None:
            return 0
        return int(database.members().filter(segment_id=sync.pk).unsent().count())

    def figures(self) -> tuple[int, int]:
        """Return how many customers are sent, and how many there were to send."""
        left = self._left()
        self._total = max(self._total, left)
        return self._total - left, self._total

    def operations(self) -> Collection[Operation]:
        """Return the operations that the audience waits for."""
        segment = self.segment()
        if segment.bunce_id is None:
            return {Operation.CREATE}
        return {Operation.ADD, Operation.REMOVE, Operation.UPDATE}


def _compared(compare: Callable[[], Difference | None]) -> Difference | None:
    """Return what a comparison found; None if it was interrupted or another process compares.

    Raises:
        CommandError: the code of the audience failed.
    """
    try:
        return compare()
    except Interrupted:
        return None
    except AudienceFailed as failed:
        cause = failed.__cause__
        raise CommandError(
            f"The audience could not be compared, and nobody was removed: {type(cause).__name__}:"
            f" {cause}. Add --traceback to see where."
        ) from cause


def _find(action: str, key: str | None) -> Audience:
    """Return the audience with a key.

    Raises:
        CommandError: there is none.
    """
    known = [one.get_key() for one in audiences.all_audiences()]
    names = f"The audiences are: {', '.join(known)}." if known else "There are no audiences."
    if key is None:
        raise CommandError(f"Name an audience: bunce_audiences {action} KEY. {names}")
    audience = audiences.get(key)
    if audience is None:
        raise CommandError(f"There is no audience {key!r}. {names}")
    return audience


def _sync_of(audience: Audience) -> CustomerSync | None:
    syncs = database.customer_syncs().select_related("segment")
    return syncs.filter(key=audience.get_key()).first()


def _seconds(audience: Audience | None) -> float | None:
    if audience is None or audience.interval is None:
        return None
    return audience.interval.total_seconds()
