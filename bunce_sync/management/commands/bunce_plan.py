"""``manage.py bunce_plan``: what a push would do, like a diff."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from django.core.management.base import CommandParser

from bunce_sync import database, services
from bunce_sync.choices import Status
from bunce_sync.conf import conf
from bunce_sync.management.console import (
    DONE,
    FAILED,
    SHOWN,
    TO_DO,
    SyncCommand,
    counted,
    named,
    number,
    quoted,
    whole_number,
)
from bunce_sync.management.list_reading import read_preview
from bunce_sync.management.texts import CHANGED, SIGNS, WORDS, item_lines, message_lines
from bunce_sync.status.plan import Kind, Plan, make_plan
from bunce_sync.status.presenters import describe_environment, format_time, reasons_to_wait
from bunce_sync.status.status import SyncStatus, get_status
from bunce_sync.sync.import_preview import Example, ImportPreview, RefreshOnly

#: Keys that are read at a time.
CHUNK: Final = 1000


@dataclass
class Unlisted:
    """What a reading of Bunce's list showed beside the copies that it refreshed.

    Attributes:
        gone: how many synced segments were not in the list.
        rows: keys and names of the first of them.
        unknown: how many segments of Bunce an import would add.
        examples: the first of them.
    """

    gone: int = 0
    rows: list[tuple[int, str]] = field(default_factory=list)
    unknown: int = 0
    examples: list[Example] = field(default_factory=list)


class Command(SyncCommand):
    """Print the plan; it sends nothing."""

    help = (
        "Show what a push would create and update, what differs in Bunce, what needs attention and"
        " what belongs elsewhere. Nothing is sent, and without --refresh Bunce is not asked. Exit"
        " code 0: nothing to do. 3: something to do. 1: it could not be found out."
    )

    def add_options(self, parser: CommandParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        add("--refresh", action="store_true",
            help="first read Bunce's list, and store what Bunce has of the segments here; adds"
            " none")  # fmt: skip
        add("--limit", type=whole_number, default=SHOWN, metavar="N",
            help="segments of each kind that are shown (default: %(default)d)")  # fmt: skip

    def work(self, options: dict[str, Any]) -> int:
        """Print the plan.

        Raises:
            CommandError: Bunce's list cannot be read.
        """
        limit = options["limit"]
        unlisted = None
        if options["refresh"]:
            preview = ImportPreview(acts=RefreshOnly(), examples=limit)
            read_preview(self, preview, "Reading Bunce's list")
            if not preview.ended:
                self.say("Interrupted before the end of the list.")
                return FAILED
            unlisted = _unlisted(preview, limit)
        status = get_status()
        plan = make_plan(now=status.now, limit=limit)
        if self.json:
            self.print_json(_as_json(plan, status, unlisted))
        else:
            self._print(plan, status, unlisted)
        to_do = plan.has_work or (unlisted is not None and unlisted.gone > 0)
        return TO_DO if to_do else DONE

    def _print(self, plan: Plan, status: SyncStatus, unlisted: Unlisted | None) -> None:
        styles: dict[Kind, Callable[[str], str]] = {
            Kind.CREATE: self.style.SUCCESS,
            Kind.UPDATE: self.style.WARNING,
            Kind.CHECK: self.style.NOTICE,
            Kind.DIFFERS: self.style.NOTICE,
            Kind.ATTENTION: self.style.ERROR,
        }
        for kind in Kind:
            for item in plan.items[kind]:
                first, *others = item_lines(item, plan.now)
                self.say(styles[kind](first))
                for line in others:
                    self.say(line)
            if more := plan.counts[kind] - len(plan.items[kind]):
                self.say(f"{SIGNS[kind]} … and {number(more)} more: {WORDS[kind]}")
        if unlisted is not None:
            self._print_unlisted(unlisted)
        for environment, count in sorted(plan.elsewhere.items()):
            where = describe_environment(environment)
            self.say(
                f"· {counted(count, 'segment')} of {where}; `manage.py bunce_rehome` moves them"
            )
        if plan.has_work or unlisted or plan.elsewhere:
            self.say()
        self._print_remarks(status)
        self.say(_totals(plan, unlisted))
        self.say(self._as_of(plan, read_now=unlisted is not None))

    def _print_unlisted(self, unlisted: Unlisted) -> None:
        for pk, name in unlisted.rows:
            self.say(self.style.ERROR(f"- not in Bunce's list {named(pk, name)}"))
        if more := unlisted.gone - len(unlisted.rows):
            self.say(f"- … and {number(more)} more: not in Bunce's list")
        for example in unlisted.examples:
            self.say(f"· only in Bunce {quoted(example.name)} {example.bunce_id}")
        if more := unlisted.unknown - len(unlisted.examples):
            self.say(f"· … and {number(more)} more: only in Bunce")
        if unlisted.unknown:
            self.say("  `manage.py bunce_import` adds what is only in Bunce.")

    def _print_remarks(self, status: SyncStatus) -> None:
        """Print what keeps the plan from being carried out."""
        for reason in reasons_to_wait(replace(status, elsewhere={})):
            first, *others = message_lines(reason)
            self.say(self.style.WARNING(first))
            for line in others:
                self.say(line)

    def _as_of(self, plan: Plan, *, read_now: bool) -> str:
        """Return how old the copies of Bunce's content are."""
        if read_now:
            return f"Bunce's content: just read from {describe_environment(conf.environment)}."
        if plan.read_at is None:
            return (
                "Bunce's content: as each segment was last sent or read. Add --refresh to read"
                " Bunce's list first."
            )
        at = format_time(plan.read_at, plan.now)
        return f"Bunce's content: as of the import at {at}. Add --refresh to read it now."


def _unlisted(preview: ImportPreview, limit: int) -> Unlisted:
    """Compare the rows with what the list showed."""
    found = Unlisted(unknown=preview.counts["imported"], examples=preview.examples["imported"])
    rows = database.segments().here().filter(status=Status.SYNCED, bunce_id__isnull=False)
    # Not those that were sent since.
    rows = rows.exclude(synced_at__gte=preview.started_at).order_by("pk")
    for pk, bunce_id in rows.values_list("pk", "bunce_id").iterator(chunk_size=CHUNK):
        if not preview.has_read(str(bunce_id)):
            found.gone += 1
            if len(found.rows) < limit:
                found.rows.append((pk, ""))
    names = dict(
        database.segments()
        .filter(pk__in=[pk for pk, _name in found.rows])
        .values_list("pk", "name")
    )
    found.rows = [(pk, names.get(pk, "")) for pk, _name in found.rows]
    return found


def _totals(plan: Plan, unlisted: Unlisted | None) -> str:
    counts = plan.counts
    gone = unlisted.gone if unlisted else 0
    parts = [
        f"{number(counts[Kind.CREATE])} to create",
        f"{number(counts[Kind.UPDATE])} to update",
    ]
    optional = [
        (counts[Kind.CHECK], "being checked with Bunce"),
        (plan.decisions, CHANGED),
        (counts[Kind.DIFFERS] - plan.decisions, "different in Bunce"),
        (counts[Kind.ATTENTION], "in need of attention"),
        (gone, "not in Bunce's list"),
        (unlisted.unknown if unlisted else 0, "only in Bunce"),
        (sum(plan.elsewhere.values()), "elsewhere"),
    ]
    parts += [f"{number(count)} {words}" for count, words in optional if count]
    return f"Plan: {', '.join(parts)}; {number(plan.in_step - gone)} in sync."


def _as_json(plan: Plan, status: SyncStatus, unlisted: Unlisted | None) -> dict[str, Any]:
    value: dict[str, Any] = {
        "environment": conf.environment,
        "to_do": plan.has_work or bool(unlisted and unlisted.gone),
        **{kind: {"count": plan.counts[kind], "segments": plan.items[kind]} for kind in Kind},
        "elsewhere": plan.elsewhere,
        "in_sync": plan.in_step - (unlisted.gone if unlisted else 0),
        "paused": status.pause,
        "read_at": plan.read_at if unlisted is None else services.database_time(),
    }
    if unlisted is not None:
        value["not_listed"] = {
            "count": unlisted.gone,
            "segments": [{"id": pk, "name": name} for pk, name in unlisted.rows],
        }
        value["only_in_bunce"] = {"count": unlisted.unknown, "segments": unlisted.examples}
    return value
