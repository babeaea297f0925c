"""``manage.py bunce_rehome``: move segments to the environment or the account used now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from django.core.management.base import CommandError, CommandParser

from bunce_sync import services
from bunce_sync.conf import conf
from bunce_sync.log_entries import log_for_all
from bunce_sync.management.console import (
    DONE,
    EXIT_CODES,
    FAILED,
    SyncCommand,
    counted,
    named,
    number,
)
from bunce_sync.management.foreground import Turn, work
from bunce_sync.management.list_reading import LISTS, Pace
from bunce_sync.management.people import add_person, find_person
from bunce_sync.status import messages
from bunce_sync.status.counts import count_elsewhere
from bunce_sync.status.presenters import describe_environment
from bunce_sync.sync.attempt import client
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.rehome import Preview, Rehome, Verdict

#: What is done with segments: as a preview, and done.
WORDS: Final[Mapping[Verdict, tuple[str, str]]] = {
    Verdict.FOUND: (
        "in the account used now: only their environment changes",
        "kept, since the account used now has them",
    ),
    Verdict.BACK: (
        "sent here before: they get back the segments they had, and are updated",
        "got back the segments they had here before",
    ),
    Verdict.UNRESOLVED: (
        "perhaps created: looked for in Bunce's list, and created only if they are not there",
        "to be looked for in Bunce's list",
    ),
    Verdict.ANEW: (
        "not in the account used now: they give up their Bunce ids and are created there",
        "to be created in the account used now",
    ),
    Verdict.SENDING: (
        "being sent by another process right now: left as they are",
        "left, since another process was sending them; run this again",
    ),
}


class Command(SyncCommand):
    """Read the list, show what would be moved, ask, and move."""

    help = (
        "Move segments that belong to another environment to the one used now. Bunce's list is read"
        " first: segments that are in it are kept, only the others are created again. Shows a"
        f" preview and asks. Names, descriptions and other fields stay. {EXIT_CODES}"
    )

    def add_options(self, parser: CommandParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        add("--from", dest="source", metavar="ENV",
            help="only segments of this environment: “live”, “sandbox”, a host, or the whole"
            " text")  # fmt: skip
        add("--this-account", action="store_true",
            help="the API key belongs to another account than before: also examine the segments of"
            " the environment used now, and accept the key")  # fmt: skip
        add("--accept-key", action="store_true",
            help="only accept the API key as one of this site's account; nothing is read or"
            " moved")  # fmt: skip
        add("--dry-run", action="store_true", help="show the preview, and change nothing")
        add("--yes", action="store_true", help="do not ask")
        add_person(parser)

    def work(self, options: dict[str, Any]) -> int:
        """Move segments.

        Raises:
            CommandError: the environment is not known, the key belongs to another account, Bunce's
                list cannot be read, or the command cannot ask for confirmation.
        """
        _by, user = find_person(options)
        if options["accept_key"]:
            return self._accept_key(options, user)
        move = Rehome(_sources(options["source"]), this_account=options["this_account"])
        here = describe_environment(move.here)
        if not move.has_rows:
            if self.json:
                self.print_json(_as_json(Preview(), move, applied=False, interrupted=False))
            self.say(f"All segments belong to {here}. Nothing to do.")
            return DONE
        if not self._read(move):
            self.say("Interrupted before the end of the list. Nothing was changed.")
            return FAILED
        if move.key_is_strange and not move.this_account:
            raise CommandError(
                f"Nothing was changed: this site has segments in {here}, and Bunce's list shows"
                " none of them, so the API key seems to belong to another account. If the segments"
                " are to move to it, add --this-account."
            )
        preview = move.preview()
        if not self.json:
            self._print_preview(preview, move)
        if options["dry_run"] or not _has_work(preview):
            if self.json:
                self.print_json(_as_json(preview, move, applied=False, interrupted=False))
            else:
                self.say("Nothing was changed.")
            return DONE
        if not (options["yes"] or self.confirm("Move them?")):
            self.say("Nothing was changed.")
            return DONE
        return self._apply(move, preview, user)

    def _accept_key(self, options: dict[str, Any], user: Any) -> int:
        client()  # the key must be usable
        if not options["dry_run"]:
            services.accept_key()
            log_for_all(user, messages.KEY_ACCEPTED_LOG)
        if self.json:
            self.print_json({"accepted": not options["dry_run"]})
        accepted = "Would accept" if options["dry_run"] else "Accepted"
        self.say(f"{accepted} the API key for {describe_environment(conf.environment)}.")
        return DONE

    def _read(self, move: Rehome) -> bool:
        """Read Bunce's list; return whether it was read to its end."""

        def turn(budget: Budget) -> Turn:
            while not (move.complete or budget.out_of_time or self.stop.is_set()):
                if not move.read_page(budget):
                    return Turn.WAIT
            return Turn.DONE if move.complete else Turn.MORE

        with self.progress(f"Reading the list of {describe_environment(move.here)}") as progress:
            pace = Pace()

            def show(note: str) -> None:
                again = "once more, since segments may have moved between pages"
                text = counted(move.pages, "page") + pace.text(move.pages)
                progress.update(text, note=note or (again if move.reads_again else ""))

            return work(turn, show, stop=self.stop, operations=lambda: LISTS)

    def _print_preview(self, preview: Preview, move: Rehome) -> None:
        self.say(f"Read the list of {describe_environment(move.here)}.")
        for environment, counts in sorted(preview.counts.items()):
            total = counted(sum(counts.values()), "segment")
            what = "belongs" if sum(counts.values()) == 1 else "belong"
            where = describe_environment(environment)
            if environment == move.here:
                self.say(f"{total} of {where} to be moved to another account:")
            else:
                self.say(f"{total} {what} to {where}:")
            for verdict in Verdict:
                if not counts[verdict]:
                    continue
                self.say(f"  {number(counts[verdict]):>7}  {WORDS[verdict][0]}")
                for pk, name in preview.examples[environment, verdict]:
                    self.say(f"           {named(pk, name)}")
                if more := counts[verdict] - len(preview.examples[environment, verdict]):
                    self.say(f"           … and {number(more)} more")

    def _apply(self, move: Rehome, preview: Preview, user: Any) -> int:
        """Move the segments, and report."""
        done: Counter[Verdict] = Counter()
        total = sum(preview.total.values())
        complete = True
        with self.progress("Moving") as progress:
            for moved in services.rehome(move):
                done += moved
                count = sum(done.values())
                text = f"{number(count)} of {counted(total, 'segment')}"
                progress.update(text, done=count, total=total)
                if self.stop.is_set():
                    complete = False
                    break
        sources = ", ".join(describe_environment(name) for name in sorted(preview.counts))
        moved_count = sum(done.values()) - done[Verdict.SENDING]
        log_for_all(
            user,
            messages.MOVED_LOG,
            count=moved_count,
            elsewhere=sources,
            here=describe_environment(move.here),
        )
        left = done[Verdict.SENDING] > 0
        if self.json:
            self.print_json(_as_json(preview, move, applied=True, interrupted=not complete))
            return FAILED if left else DONE
        self.say(f"Moved {counted(moved_count, 'segment')} to {describe_environment(move.here)}:")
        for verdict in Verdict:
            if done[verdict]:
                self.say(f"  {number(done[verdict]):>7}  {WORDS[verdict][1]}")
        if not complete:
            self.say("Interrupted: run it again to move the others.")
        return FAILED if left else DONE


def _sources(label: str | None) -> list[str]:
    """Return the environments that a label names; all others than the current one without it.

    Raises:
        CommandError: it names none.
    """
    known = [*count_elsewhere()]
    if label is None:
        return known
    found = [name for name in known if label in (name, *_labels(name))]
    if not found:
        others = ", ".join(describe_environment(name) for name in known) or "none"
        raise CommandError(f"No segment belongs to {label!r}. Other environments: {others}.")
    return found


def _labels(environment: str) -> tuple[str, ...]:
    """Return what an environment may be called."""
    url, _separator, kind = environment.partition(" ")
    parts = urlsplit(url)
    return kind, parts.hostname or "", parts.netloc, url, describe_environment(environment)


def _has_work(preview: Preview) -> bool:
    return any(count for verdict, count in preview.total.items() if verdict != Verdict.SENDING)


def _as_json(preview: Preview, move: Rehome, *, applied: bool, interrupted: bool) -> dict[str, Any]:
    return {
        "environment": move.here,
        "applied": applied,
        "interrupted": interrupted,
        "counts": {
            environment: {verdict: counts[verdict] for verdict in Verdict}
            for environment, counts in preview.counts.items()
        },
        "examples": [
            {"environment": environment, "verdict": verdict, "id": pk, "name": name}
            for (environment, verdict), rows in preview.examples.items()
            for pk, name in rows
        ],
    }
