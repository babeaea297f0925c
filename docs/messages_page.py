"""Writes messages.md from the texts in the code: ``python -m docs.messages_page``.

A test fails when the page is out of date.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import django

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "messages.md"

BEGINNING = """\
# Messages

Every message that the admin, `manage.py check` and `bunce_doctor` can show, and what to do. “…”
stands for a name, a number or a time. To find a message, search this page for a few of its words.
[Troubleshooting](troubleshooting.md) begins with what you see instead.

This page is made from the texts in the code.
"""


#: What happens next, by codes.
NEXT = {
    ("refused", "dns", "tls", "connect_timeout", "connect_failed", "permit_expired"): (
        "Nothing was sent, and it is retried automatically. If it persists, `bunce_doctor` examines"
        " the connection."
    ),
    ("rate_limited", "unavailable"): "Requests resume automatically.",
    ("key_refused",): "Set a valid key, and restart the web server and the workers.",
    ("linked_elsewhere",): (
        "Nothing: Bunce's list is searched for the segment that belongs to this row."
    ),
    ("internal",): "Read the workers' log. It is retried automatically.",
    ("row_deleted",): "Nothing, unless Bunce has the segment: remove it in Bunce's dashboard then.",
    ("not_reported",): (
        "Call `report(response)` in the block of"
        " [`limiter.permit()`](observability.md#other-requests-to-bunce-from-your-site)."
    ),
    (
        *("read_timeout", "deadline", "reset", "closed", "cut", "tls_broken", "server_error"),
        *("not_json", "wrong_shape", "no_id", "says_failed", "too_large", "redirect"),
        *("unexpected_status", "paging", "no_content", "worker_lost"),
    ): (
        "Nothing: it is not known whether Bunce acted, so a create is looked up in Bunce's list,"
        " and everything else is sent again or read."
    ),
}
#: What to do when a segment is as one of these messages says.
STATES = {
    ("CAUSE_NEW", "CAUSE_EDITED", "CAUSE_SEND_AGAIN", "CAUSE_EDITED_SINCE", "CAUSE_SENDING"): (
        "Nothing. If it stays, see [nothing is sent](troubleshooting.md#nothing-is-sent)."
    ),
    ("CAUSE_SYNCED", "CAUSE_IMPORTED", "CAUSE_LINKED"): "Nothing.",
    ("CAUSE_ABSENT",): "Nothing: it is sent again automatically.",
    ("CAUSE_DOUBTFUL_REFUSAL",): (
        "Nothing: Bunce's list is searched for it. If it is not there, it needs attention."
    ),
    ("CAUSE_UNKNOWN_CODE", "CAUSE_REFRESH_FAILED"): (
        "The requests on the page of the segment show Bunce's response. It is retried automatically"
        " or with “Refresh from Bunce”."
    ),
}
#: The same, when something that a person asked for was not done, or not at once.
NOT_DONE = {
    ("LINK_UNMATCHED", "LINK_NONE", "LINK_IMPORT_FIRST"): (
        "[Import](import.md#link-instead-of-creating) first, and compare name and description."
    ),
    ("LINK_MORE", "TOO_MANY"): "Repeat the action.",
    ("NOT_LINKED",): "Look at these segments: most of them need no link any more.",
    ("NOT_PAUSED", "NO_IMPORT", "ALL_REQUESTED", "LOOKED_FOR", "CHANGED_NOW"): "Nothing.",
    ("NOT_PUSHED",): "Retry those that need attention; edit those that are synced.",
    ("NOT_DIFFERENT", "NOT_GONE", "NOT_RETRIED"): "Nothing: the action does not apply to them.",
    ("NOT_REFRESHED",): "Wait until they are synced, or push them.",
    ("NOT_HERE",): "See [environments](environments.md#the-guard).",
    ("STAY_HELD",): "See [release a hold](pause.md#release-a-hold).",
    (
        *("OTHER_DIFFERENCE", "CHANGED_MEANWHILE", "CHANGED_BESIDE", "CHANGED_RELOAD"),
        "DECIDE_CHANGED",
    ): ("Look at the new values, then decide again."),
    ("UNSAVED",): "Save first.",
    ("NOT_SAVED",): "Leave the field as it is, and save again.",
    ("NOT_UPDATED",): "Reload the page.",
    ("SITE_UNREACHABLE",): "Check the web server and your network.",
    ("BUSY", "NOTHING_DELETED"): "Try again in a few minutes.",
    ("TOO_MANY_TO_DELETE",): "Select fewer.",
    ("CHANGED_IN_BUNCE",): "*Push ours* or *Take theirs*: see [drift](drift.md#decide).",
    ("CUSTOMERS_NEITHER", "CUSTOMERS_BOTH"): "Use one of the two.",
    ("CUSTOMERS_TOO_MANY", "CUSTOMERS_TOO_LARGE"): "Send it in parts.",
    ("CUSTOMERS_NOT_TEXT", "CUSTOMERS_NO_CSV"): "Save the file as CSV in UTF-8.",
    ("CUSTOMERS_LINE", "CUSTOMERS_MORE_LINES"): "Correct these lines.",
    (
        "CUSTOMERS_UNKNOWN_COLUMN",
        "CUSTOMERS_REPEATED_COLUMN",
    ): "Correct the first line of the file.",
    ("CUSTOMERS_FORGOTTEN",): "See [privacy](privacy.md#the-right-to-be-forgotten).",
    ("MEMBER_NOT_BY_HAND",): "Change the [audience](audiences.md) or its data.",
}
#: Names of texts that report no problem: labels, buttons, titles, help, confirmations, and what
#: the log says. A test fails if a text is neither one of them nor on the page.
LABELS = re.compile(
    r"(ACTION|AGO|BADGE|COPY|DETAIL|IMPORT|LINK|PAUSE|REFRESH|RESUME|USAGE)(_.+)?|.+_(LOG|MANY)"
    r"|DECIDE_(TITLE|INTRO|EXAMPLES|CONFIRM|CONFIRM_HELP|DROP|CONFIRMED|DROPPED)"
    r"|CUSTOMERS_(WHAT|TITLE|NUMBERS|BY_BUNCE|NONE|ALL|OF_AUDIENCE|COMPARED|NEXT|COMPARE|DECIDE)"
    r"|CUSTOMERS_(ADD|REMOVE|RETRY|RESYNC|LIST|LIST_REFUSED|TEXT|TEXT_HELP|TEXT_SIZE|FILE|FILE_HELP)"
    r"|CUSTOMERS_(ADDED|REMOVED|RETRIED|RESENT|(ADD|REMOVE|RESYNC)_INTRO|COMPARE_REQUESTED)"
    r"|MEMBER_(TITLE|CHOOSE|REMOVE|RETRY|REMOVING)|AT_TIME|IN_SECONDS|IN_MINUTES|NOW|DUE|ZONE|CHART"
    r"|PUSH_NOW|PUSH_OURS|TAKE_THEIRS|CREATE_AGAIN|PUSHED|RETRIED|REFRESHED|TAKEN|CREATED_AGAIN"
    r"|PUSHES_(PAUSED|RESUMED|TO_BUNCE)|PAUSED_FOR|RESUMED|NO_REASON|BY_SCHEDULE|LINKED(_TO)?"
    r"|GAVE_WAY_TO|CANCEL|COPIED|NO_CALLS|SENT_TO|CURL_CREATES|CHANGED_TO|SAVING_REPLACES|TYPES"
    r"|EMPTY_VALUE|BUNCE_KEEPS|BUNCE_HAS_NONE|NEVER_SENT|FIXED_AFTER_SENDING|OPEN_SEGMENT"
    r"|NAME_OF_AUDIENCE|OPERATION_PROBING|CAUSES"
)
#: Instead of a message that is computed from the start.
COMPUTED = "*(the reason, in words)*"
#: The same in the doctor, which passes them on.
PASSED_ON = (
    "*a message of [the panel](#the-panel-and-a-segments-customers), or"
    " [why a request failed](#why-a-request-failed)*"
)
IN_THE_LINE = "*the line says it*"


#: For the plural of a text. It is shown as an ellipsis, whichever format the text has for it.
MANY = 7_777_777


class _Values(dict[str, Any]):
    """A value for each placeholder."""

    def __missing__(self, key: str) -> int:
        return MANY


def shown(text: Any) -> str:
    """Return a text with an ellipsis for each placeholder, in one line of a table."""
    depends_on_a_number = hasattr(text, "_translate")
    if depends_on_a_number or "%(" in str(text):
        text = text % _Values()
    line = " ".join(str(text).replace(str(MANY), "…").replace("….…", "…").split())
    return line.replace("|", "\\|").replace("$", "\\$")


def steps(texts: Any) -> str:
    """Return what to do, for a reader who has all permissions."""
    if not isinstance(texts, tuple):
        texts = (texts,)
    return " ".join(shown(getattr(one, "allowed", one)) for one in texts)


def table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """Return a table in Markdown; a row that occurs twice is shown once."""
    lines = [heads, tuple("---" for _ in heads), *dict.fromkeys(rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def segments() -> Iterator[tuple[str, ...]]:
    """Yield the states of a segment in words: message, what to do."""
    from bunce_sync.choices import Status
    from bunce_sync.status import messages

    actions = {
        Status.PENDING: (messages.ACTION_SOON, messages.ACTION_RETRY),
        Status.SENDING: (messages.ACTION_SENDING,),
        Status.SYNCED: (messages.NO_ACTION,),
        Status.IN_DOUBT: (messages.ACTION_SEARCH_AT,),
        Status.REJECTED: messages.ACTION_REJECTED,
    }
    for summaries in (messages.SUMMARY_CREATE, messages.SUMMARY_UPDATE):
        for status, summary in summaries.items():
            yield shown(summary), steps(actions[status])
    for (special, code), text in messages.SUMMARY_SPECIAL.items():
        by_code = messages.ACTION_SYNCED if special == Status.SYNCED else messages.ACTION_BY_CODE
        yield shown(text), steps(by_code[code])


def causes() -> Iterator[tuple[str, ...]]:
    """Yield why a request failed: code, message, what to do about it."""
    from bunce_sync.status import messages

    known = {
        **messages.ACTION_SYNCED,
        **messages.ACTION_BY_CODE,
        **dict.fromkeys(messages.REFUSALS, messages.ACTION_REJECTED),
    }
    for code, text in messages.CAUSES.items():
        if code:
            what_to_do = steps(known[code]) if code in known else _without_a_person(code)
            yield f"`{code}`", shown(text), what_to_do


def _without_a_person(code: str) -> str:
    """Return what happens next after a failure that no person has to act on, or seldom."""
    for codes, text in NEXT.items():
        if code in codes:
            return text
    raise LookupError(f"what follows after the code {code!r} is missing in NEXT")


def named(remedies: Mapping[tuple[str, ...], str]) -> Iterator[tuple[str, ...]]:
    """Yield texts by their names, with what to do: message, what to do."""
    from bunce_sync.status import messages

    for names, remedy in remedies.items():
        for name in names:
            value = getattr(messages, name)
            for text in value.values() if isinstance(value, Mapping) else [value]:
                yield shown(text), remedy


def outcomes() -> Iterator[tuple[str, ...]]:
    """Yield what the page of a segment says about a request: message."""
    from bunce_sync.status import messages

    for text in (*messages.OUTCOME.values(), *messages.DECISION.values()):
        yield (shown(text),)


def panel() -> Iterator[tuple[str, ...]]:
    """Yield the messages of the panel and of a segment's customers: message, cause, what to do."""
    from bunce_sync.status import messages

    for value in vars(messages).values():
        templates = value.values() if isinstance(value, Mapping) else [value]
        for template in templates:
            if isinstance(template, messages.MessageTemplate):
                yield shown(template.summary), shown(template.cause), steps(template.action)


def operations() -> Iterator[tuple[str, ...]]:
    """Yield the operations that can be paused: message."""
    from bunce_sync.status import messages

    for text in messages.OPERATION_PAUSED.values():
        yield (shown(text),)


def operation_causes() -> Iterator[tuple[str, ...]]:
    """Yield why an operation is paused: message, what to do."""
    from bunce_sync.status import messages

    for code, text in messages.OPERATION_CAUSE.items():
        action = messages.OPERATION_ACTION.get(code, messages.OPERATION_ACTION_ELSE)
        yield shown(text), shown(action)
    for text in (messages.OPERATION_CAUSE_REFUSED, messages.OPERATION_CAUSE_UNREADABLE):
        yield shown(text), shown(messages.OPERATION_ACTION_ELSE)


def checks() -> Iterator[tuple[str, ...]]:
    """Yield the system checks: id, message, hint."""
    from bunce_sync import checks as module

    found = []
    for call in _calls(module.__file__, "Error", "Warning"):
        named = {keyword.arg: keyword.value for keyword in call.keywords}
        if "id" in named:
            number = _text(named["id"], vars(module)).removeprefix("bunce_sync.")
            hint = _text(named["hint"], vars(module)) if "hint" in named else ""
            message = shown(_text(call.args[0], vars(module)))
            if message == "…":
                message = _in_docstrings(module.__file__, number)
            what_to_do = "*the hint says it*" if hint == "…" else shown(hint)
            found.append((f"`{number}`", message, what_to_do))
    yield from sorted(found, key=lambda row: (row[0][2:], row))


def findings() -> Iterator[tuple[str, ...]]:
    """Yield what the doctor finds wrong: line, level, message, fix."""
    from bunce_sync import doctor as module

    for call in _calls(module.__file__, "Finding"):
        arguments = [_text(argument, vars(module)) for argument in call.args]
        name, level, summary, *fix = arguments
        if level in ("pass", "skip") or name == "…":  # the latter are the system checks
            continue
        level = "warn, fail" if level == "…" else level
        computed = set(summary) <= {"…", " "}
        what_to_do = " ".join(fix)
        yield (
            f"`{name}`",
            level,
            PASSED_ON if computed else shown(summary),
            IN_THE_LINE if set(what_to_do) <= {"…"} else shown(what_to_do),
        )


def _in_docstrings(path: str | None, number: str) -> str:
    """Return what the docstrings of the checks say about an id."""
    [text] = re.findall(rf"{number}: (.+?)[.]", Path(path or "").read_text())
    return f"{text[0].upper()}{text[1:]}: {COMPUTED}"


def _calls(path: str | None, *names: str) -> Iterator[ast.Call]:
    tree = ast.parse(Path(path or "").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda node: node.lineno):
        function = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        name = call.func.id if isinstance(call.func, ast.Name) else function
        if name in names and call.args:
            yield call


def _text(node: ast.expr, names: Mapping[str, Any]) -> str:
    """Return a text of the code, with an ellipsis for what is computed."""
    match node:
        case ast.Constant():
            return str(node.value)
        case ast.Name() if isinstance(names.get(node.id), str):
            return str(names[node.id])
        case ast.JoinedStr():
            return "".join(_text(value, names) for value in node.values)
        case ast.BinOp(op=ast.Add()):
            return _text(node.left, names) + _text(node.right, names)
        case ast.IfExp():
            # Of the level of a finding the worse one; of texts the first.
            return _text(node.orelse if _is_level(node) else node.body, names)
    return "…"


def _is_level(node: ast.IfExp) -> bool:
    return isinstance(node.orelse, ast.Constant) and node.orelse.value == "fail"


def page() -> str:
    """Return the page."""
    parts = [
        BEGINNING,
        "## A segment\n",
        table(("message", "what to do"), segments()),
        "",
        table(("why", "what to do"), named(STATES)),
        "\n## Why a request failed\n",
        "The code is in the call log, in the REST API and in the log.\n",
        table(("code", "message", "what to do"), causes()),
        "\n## A request\n",
        "The page of a segment lists the requests made for it. Nothing has to be done.\n",
        table(("message",), outcomes()),
        "\n## Something was not done\n",
        table(("message", "what to do"), named(NOT_DONE)),
        "\n## The panel, and a segment's customers\n",
        table(("message", "cause", "what to do"), panel()),
        "\n## When one kind of request is paused\n",
        table(("message",), operations()),
        "",
        table(("cause", "what to do"), operation_causes()),
        "\n## System checks\n",
        "`python manage.py check` reports them. Each id begins with `bunce_sync.`\n",
        table(("id", "message", "what to do"), checks()),
        "\n## The doctor\n",
        "Lines of `python manage.py bunce_doctor` that are *warn* or *fail*.\n",
        "Lines of the settings, the address, the database and Celery show the system checks.\n",
        table(("line", "level", "message", "what to do"), findings()),
        "",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "docs.site_settings"
    django.setup()
    PAGE.write_text(page())
