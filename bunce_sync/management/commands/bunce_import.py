"""``manage.py bunce_import``: make rows of all segments of the account, in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.core.management.base import CommandError, CommandParser

from bunce_sync import database, services
from bunce_sync.conf import conf
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
from bunce_sync.management.foreground import Blocked, Turn, work
from bunce_sync.management.list_reading import LISTS, Pace, list_size, read_preview
from bunce_sync.models import ImportRun
from bunce_sync.status.presenters import describe_environment
from bunce_sync.sync import importer
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.import_preview import Example, ImportPreview
from bunce_sync.sync.importer import COUNTS

#: What an import did with segments, by the names of ``importer.COUNTS``: done, and as a preview.
WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "imported": ("added", "would be added"),
    "changed": ("refreshed with what Bunce has now", "would be refreshed with what Bunce has now"),
    "unchanged": ("unchanged", "unchanged"),
    "adopted": (
        "linked to segments that waited to be created",
        "would be linked to segments that wait to be created",
    ),
    "found": (
        "linked to segments whose create had an unknown outcome",
        "would be linked to segments whose create had an unknown outcome",
    ),
    "duplicates": ("second copies of segments here", "second copies of segments here"),
    "reserved": (
        "left to creates whose outcome is still unknown",
        "would be left to creates whose outcome is still unknown",
    ),
    "deleted": (
        "left out: deleted here (--include-deleted brings them back)",
        "would be left out: deleted here (--include-deleted brings them back)",
    ),
    "elsewhere": (
        "left out: their rows belong to another environment",
        "would be left out: their rows belong to another environment",
    ),
    "refused": ("could not be stored; the log says why", "could not be stored"),
}
#: Of these a preview names the first segments.
NAMED: Final = ("adopted", "found", "imported", "changed", "duplicates", "reserved", "deleted")
CANCELLED: Final = "The import was cancelled. What it did stays."
CONTINUES: Final = (
    "The import stays open, and workers continue it. Continue here: `manage.py bunce_import`."
    " Cancel: `manage.py bunce_import --cancel`."
)


class Command(SyncCommand):
    """Import, preview an import, or cancel the open one."""

    help = (
        "Import all segments of the account: unknown ones are added here, known ones show what"
        " Bunce has; what was edited here is never overwritten. Works in the foreground, beside"
        f" workers and within the limit of requests; Ctrl-C leaves the import to workers."
        f" {EXIT_CODES}"
    )

    def add_options(self, parser: CommandParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        add("--adopt", action="store_true",
            help="link segments that wait to be created to segments of the same content in Bunce;"
            " nothing is created until the import ends")  # fmt: skip
        add("--include-deleted", action="store_true",
            help="also import segments that were deleted here")  # fmt: skip
        only = parser.add_mutually_exclusive_group()
        only.add_argument("--dry-run", action="store_true",
            help="read Bunce's list, show what an import would do, and write nothing")  # fmt: skip
        only.add_argument("--cancel", action="store_true",
            help="end the open import; what it did stays")  # fmt: skip

    def work(self, options: dict[str, Any]) -> int:
        """Import, and report.

        Raises:
            CommandError: Bunce's list cannot be read.
        """
        chosen = {name: options[name] for name in ("adopt", "include_deleted")}
        if options["cancel"]:
            return self._cancel(chosen)
        if options["dry_run"]:
            return self._preview(**chosen)
        run = services.request_import(by=services.process_name(), **chosen)
        blocked = ""
        with self.progress("Importing") as progress:
            pace = Pace()
            turns = _Turns(run)

            def show(note: str) -> None:
                text = f"{list_size(run.counts, run.pages)}{pace.text(run.pages)}"
                progress.update(text, note=note or turns.note)

            try:
                work(turns.turn, show, stop=self.stop, operations=lambda: LISTS)
            except Blocked as error:
                blocked = str(error)
        return self._report(run, blocked)

    def _report(self, run: ImportRun, blocked: str) -> int:
        """Print what was imported; return the exit code."""
        run.refresh_from_db()
        ended = run.finished_at is not None
        failed = bool(blocked or run.cancelled or run.counts.get("refused"))
        if self.json:
            self.print_json(
                {
                    "finished": ended and not run.cancelled,
                    "cancelled": run.cancelled,
                    "pages": run.pages,
                    "counts": {name: run.counts.get(name, 0) for name in COUNTS},
                    "adopt": run.adopt,
                    "include_deleted": run.include_deleted,
                    "blocked": blocked,
                    "interrupted": self.stop.is_set(),
                }
            )
            return FAILED if failed else DONE
        if run.cancelled:
            self.say(CANCELLED)
        else:
            so_far = "" if ended else " so far"
            end = ":" if any(run.counts.values()) else "."
            self.say(f"{_read(run.counts, run.pages)}{so_far}{end}")
        self._print_counts(run.counts, done=True)
        if blocked:
            self.say(blocked)
        if not ended:
            if self.stop.is_set():
                self.say("Interrupted after the request under way.")
            self.say(CONTINUES)
        return FAILED if failed else DONE

    def _cancel(self, chosen: dict[str, bool]) -> int:
        """End the open import."""
        if any(chosen.values()):
            raise CommandError("--cancel goes with no other option.")
        cancelled = services.cancel_import()
        if self.json:
            self.print_json({"cancelled": cancelled})
        else:
            self.say(
                "The import was cancelled. What it did stays."
                if cancelled
                else "No import is open."
            )
        return DONE

    def _preview(self, *, adopt: bool, include_deleted: bool) -> int:
        """Read the list, and print what an import would do."""
        preview = ImportPreview(adopt=adopt, include_deleted=include_deleted, examples=SHOWN)
        read_preview(self, preview, "Reading Bunce's list")
        if not preview.ended:
            self.say("Interrupted before the end of the list. Nothing was changed.")
            return FAILED
        if self.json:
            self.print_json(
                {
                    "dry_run": True,
                    "pages": preview.pages,
                    "counts": preview.counts,
                    "segments": preview.examples,
                }
            )
            return DONE
        self.say(f"{_read(preview.counts, preview.pages)}. Nothing was changed.")
        self._print_counts(preview.counts, preview.examples, done=False)
        return DONE

    def _print_counts(
        self,
        counts: Mapping[str, int],
        examples: Mapping[str, list[Example]] | None = None,
        *,
        done: bool,
    ) -> None:
        for name in COUNTS:
            if not (count := counts.get(name, 0)):
                continue
            self.say(f"  {number(count):>7}  {WORDS[name][0 if done else 1]}")
            if examples and name in NAMED:
                shown = examples[name]
                names = _row_names(shown)
                for example in shown:
                    self.say(f"           {_example(example, names)}")
                if count > len(shown):
                    self.say(f"           … and {number(count - len(shown))} more")


class _Turns:
    """Turns of one import; workers may read pages meanwhile.

    Attributes:
        note: that another process reads the list.
    """

    def __init__(self, run: ImportRun) -> None:
        self.run = run
        self.note = ""

    def turn(self, budget: Budget) -> Turn:
        """Read some pages, unless another process does."""
        self.note = ""
        found = importer.run(budget)
        before = self.run.pages
        self.run.refresh_from_db()
        if self.run.finished_at is not None:
            return Turn.DONE
        if found.requests:
            return Turn.MORE
        if self.run.pages != before:
            self.note = "another process reads the list"
        return Turn.WAIT


def _read(counts: Mapping[str, int], pages: int) -> str:
    segments = counted(sum(counts.values()), "segment")
    return f"Read {segments} of {describe_environment(conf.environment)}, {counted(pages, 'page')}"


def _row_names(examples: list[Example]) -> dict[int, str]:
    keys = [one.segment_id for one in examples if one.segment_id is not None]
    rows = database.segments().filter(pk__in=keys)
    return dict(rows.values_list("pk", "name"))


def _example(example: Example, names: Mapping[int, str]) -> str:
    theirs = f"{quoted(example.name)} {example.bunce_id}"
    if example.segment_id is None:
        return theirs
    return f"{theirs}  →  {named(example.segment_id, names.get(example.segment_id, ''))}"
