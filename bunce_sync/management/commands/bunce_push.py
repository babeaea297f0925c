"""``manage.py bunce_push``: send segments to Bunce now, in this process."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser

from bunce_sync import database, services
from bunce_sync.choices import Status
from bunce_sync.management.console import (
    DONE,
    EXIT_CODES,
    FAILED,
    SHOWN,
    SyncCommand,
    counted,
    named,
    number,
    quoted,
)
from bunce_sync.management.foreground import Blocked, work
from bunce_sync.management.push_run import SHOWN_COLUMNS, Group, PushRun, Result, batches
from bunce_sync.management.texts import describe_hold, describe_pause, item_lines, problem
from bunce_sync.models import Segment
from bunce_sync.status.plan import Kind, Plan, make_plan
from bunce_sync.status.presenters import (
    describe_environment,
    format_time,
    release_command,
)
from bunce_sync.status.status import get_status


@dataclass
class Chosen:
    """Which of the named segments are pushed.

    Attributes:
        keys: of those that are.
        left_out: why the others are not.
        refused: whether one of them should have been: one that is in sync needs nothing.
    """

    keys: list[int] = field(default_factory=list)
    left_out: dict[int, str] = field(default_factory=dict)
    refused: bool = False


class Command(SyncCommand):
    """Push what waits, or the segments that are named, until they are at rest."""

    help = (
        "Send segments to Bunce now: everything that waits, or the segments with these numbers."
        " Works in the foreground, beside workers and within the limit of requests. Ctrl-C ends it"
        f" after the request under way; workers send what is left. {EXIT_CODES}"
    )

    def add_options(self, parser: CommandParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        add("ids", nargs="*", type=int, metavar="id",
            help="the number of a segment; one that was refused is retried")  # fmt: skip
        add("--all-rejected", action="store_true",
            help="also retry all segments that need attention")  # fmt: skip
        add("--dry-run", action="store_true", help="show what would be sent, and send nothing")

    def work(self, options: dict[str, Any]) -> int:
        """Push, and report.

        Raises:
            CommandError: pushes are paused.
        """
        chosen = _choose(options["ids"]) if options["ids"] else None
        if options["dry_run"]:
            return self._preview(chosen, with_rejected=options["all_rejected"])
        status = get_status()
        if status.pause:
            raise CommandError(
                f"Nothing was sent. {describe_pause(status.pause, status.now)}"
                " `manage.py bunce_resume` resumes pushes."
            )
        run = PushRun(chosen.keys if chosen else None, with_rejected=options["all_rejected"])
        run.prepare()
        blocked = ""
        with self.progress("Pushing") as progress:

            def show(note: str) -> None:
                done, total = run.figures()
                text = f"{number(done)} of {counted(total, 'segment')}"
                progress.update(text, done=done, total=total, note=note)

            try:
                work(run.turn, show, stop=self.stop, operations=run.operations)
            except Blocked as error:
                blocked = str(error)
        return self._report(run.result(), chosen or Chosen(), blocked)

    def _preview(self, chosen: Chosen | None, *, with_rejected: bool) -> int:
        """Print what would be sent."""
        only = None
        if chosen is not None:
            refused = database.segments().here().filter(status=Status.REJECTED)
            retried = refused.values_list("pk", flat=True) if with_rejected else ()
            only = {*chosen.keys, *retried}
        plan = make_plan(
            now=services.database_time(),
            limit=SHOWN,
            only=only,
            retry=only is not None or with_rejected,
        )
        kinds = (Kind.CREATE, Kind.UPDATE)
        left_out = chosen.left_out if chosen else {}
        if self.json:
            self.print_json(
                {
                    "dry_run": True,
                    **{
                        kind: {"count": plan.counts[kind], "segments": plan.items[kind]}
                        for kind in kinds
                    },
                    "left_out": left_out,
                }
            )
            return DONE
        self._print_left_out(left_out)
        for kind in kinds:
            for item in plan.items[kind]:
                for line in item_lines(item, plan.now):
                    self.say(line)
            if more := plan.counts[kind] - len(plan.items[kind]):
                self.say(f"… and {number(more)} more to {kind}")
        self.say(_would_send(plan))
        return DONE

    def _report(self, result: Result, chosen: Chosen, blocked: str) -> int:
        """Print what became of the segments; return the exit code."""
        problems = (result.refused, result.in_doubt, result.waiting)
        failed = chosen.refused or bool(blocked) or any(group.count for group in problems)
        code = FAILED if failed else DONE
        if self.json:
            self.print_json(
                {
                    "synced": result.synced,
                    "refused": _as_json(result.refused),
                    "in_doubt": _as_json(result.in_doubt),
                    "waiting": _as_json(result.waiting),
                    "held": _as_json(result.held),
                    "left_out": chosen.left_out,
                    "blocked": blocked,
                    "interrupted": self.stop.is_set(),
                }
            )
            return code
        self._print_left_out(chosen.left_out)
        now = services.database_time()
        if result.synced:
            self.say(f"Synced {counted(result.synced, 'segment')}.")
        elif not (failed or chosen.left_out):
            none = "nothing else waits" if result.held.count else "no segment is waiting"
            self.say(f"Nothing to send: {none}.")
        self._print_group("Refused by Bunce", result.refused, now)
        self._print_group(
            "Sent, but it is not known whether Bunce created them; workers look for them in its"
            " list",
            result.in_doubt,
            now,
        )
        self._print_group("Still waiting; workers send them", result.waiting, now)
        if result.held.count:
            for hold in get_status().holds:
                if hold.segments:
                    self.say(describe_hold(hold, now))
        if blocked:
            self.say(blocked)
        if self.stop.is_set():
            self.say("Interrupted after the request under way. Workers send what is left.")
        return code

    def _print_group(self, title: str, group: Group, now: datetime) -> None:
        if group.count:
            self.say(f"{title}: {counted(group.count, 'segment')}")
            self.bullets([_line(row, now) for row in group.rows], group.count)

    def _print_left_out(self, left_out: dict[int, str]) -> None:
        for pk, why in left_out.items():
            self.say(f"#{pk} {why}")


def _choose(keys: list[int]) -> Chosen:
    """Return which of the named segments are pushed, and why not the others."""
    chosen = Chosen()
    found: dict[int, Segment] = {}
    for some in batches(keys):
        rows = database.segments().filter(pk__in=some).only(*SHOWN_COLUMNS, "environment")
        found |= {row.pk: row for row in rows}
    for pk in dict.fromkeys(keys):
        row = found.get(pk)
        if why := _why_not(row):
            chosen.left_out[pk] = why
            synced = row is not None and row.is_here and row.status == Status.SYNCED
            chosen.refused |= not (synced and row and not row.last_code)
        else:
            chosen.keys.append(pk)
    return chosen


def _why_not(row: Segment | None) -> str:
    """Return why a segment is not pushed; empty if it is."""
    if row is None:
        return "does not exist."
    name = quoted(row.name)
    if not row.is_here:
        where = describe_environment(row.environment)
        return f"{name} belongs to {where}. `manage.py bunce_rehome` moves segments."
    if row.status == Status.IN_DOUBT:
        return f"{name} is being checked with Bunce, and not sent before its list was searched."
    if row.hold_id is not None and row.status in (Status.PENDING, Status.REJECTED):
        release = release_command(row.hold_id)
        return f"{name} is held by a no_push() block. If its process is gone: {release}"
    if row.status == Status.SYNCED and row.last_code in Segment.DIFFERING:
        return f"{name} differs in Bunce: choose “Push ours” or “Take theirs” in the admin."
    if row.status == Status.SYNCED:
        return f"{name} is in sync."
    return ""


def _would_send(plan: Plan) -> str:
    creates, updates = plan.counts[Kind.CREATE], plan.counts[Kind.UPDATE]
    if not (creates or updates):
        return "Nothing to send."
    return f"Would create {counted(creates, 'segment')} and update {number(updates)}."


def _line(row: Segment, now: datetime) -> str:
    """Return a line about a segment that is not synced."""
    parts = [problem(row.last_code, row.last_error)] if row.last_code else []
    if row.status == Status.SENDING:
        parts = ["A worker is sending it."]
    elif row.due_at > now and row.status == Status.PENDING:
        parts.append(f"Next attempt at {format_time(row.due_at, now)}.")
    elif row.status == Status.IN_DOUBT:
        parts.append(f"Looked for from {format_time(max(row.due_at, now), now)} on.")
    return f"{named(row.pk, row.name)}: {' '.join(parts) or 'Not sent yet.'}"


def _as_json(group: Group) -> dict[str, Any]:
    return {
        "count": group.count,
        "segments": [
            {
                "id": row.pk,
                "name": row.name,
                "bunce_id": row.bunce_id,
                "status": row.status,
                "code": row.last_code,
                "detail": row.last_error,
                "due_at": row.due_at,
            }
            for row in group.rows
        ],
    }
