"""Every state in words: what happened, why, and what to do next."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from django.utils import translation

from bunce_sync import exceptions
from bunce_sync.choices import Operation
from bunce_sync.client.responses import RawResponse, read_json
from bunce_sync.conf import conf
from bunce_sync.models import ApiCall, Segment, SyncState
from bunce_sync.results import result_of
from bunce_sync.status import messages
from bunce_sync.status.messages import Permission
from bunce_sync.status.presenters import (
    StatusMessage,
    describe_clocks,
    describe_decision,
    describe_problem,
    describe_rate_limiter,
    describe_segment,
    is_held,
    problems_to_fix,
    reason_to_wait,
    reasons_to_wait,
)
from bunce_sync.status.status import (
    BlockHold,
    ImportStatus,
    Pause,
    PausedOperation,
    RateLimiterStatus,
    Sweep,
    SyncStatus,
    Usage,
)
from bunce_sync.sync import work
from bunce_sync.sync.host_clocks import HostClock

NOW = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
#: Those that the circuit breaker pauses: not the requests of the site.
OPERATIONS = [rows.operation.value for rows in work.OPERATIONS]
LATER = NOW + timedelta(seconds=201)
Status = Segment.Status

#: Codes that do not come from an exception class.
OWN_CODES = {
    *("worker_lost", "permit_expired", "linked_elsewhere", "drift"),
    *("stored_differently", "all_customers", "no_such_address", "internal", "row_deleted"),
}


def everything(**changes: Any) -> SyncStatus:
    values: dict[str, Any] = {
        "now": NOW,
        "counts": {},
        "due": {},
        "usage": Usage(0, 500, 60.0),
        "rate_limiter": RateLimiterStatus(),
        "configuration_problem": "",
        "key_missing": False,
        "sweep": Sweep(at=NOW, age=0.0, late=False, interval=10.0),
        "scan": None,
        "hour": (),
        "environment": conf.environment,
    }
    return SyncStatus(**values | changes)


COMMAND = "celery -A project worker -B"
COMMANDS = (
    COMMAND,
    "python manage.py bunce_rehome",
    "python manage.py bunce_resume --hold 7",
    "bunce_rehome --this-account”.",
)


def segment(status: str = "pending", code: str = "", **values: Any) -> Segment:
    return Segment(
        name="VIP",
        status=status,
        last_code=code,
        **{"due_at": NOW, "sent_at": NOW, "lease_until": LATER, "synced_at": NOW} | values,
    )


def documented_codes() -> set[str]:
    found: set[str] = set()
    for kind in vars(exceptions).values():
        if isinstance(kind, type) and issubclass(kind, exceptions.BunceError):
            found.add(kind.code)
            _, _, named = (kind.__doc__ or "").partition("Codes: ")
            found |= set(re.findall(r"``(\w+)``", named))
    return found - {exceptions.BunceError.code}


def assert_complete(message: StatusMessage) -> None:
    for part in (message.summary, message.cause, message.action):
        assert part.endswith((".", *COMMANDS)), message
        assert "%(" not in part, message
        assert part == part.strip(), message


def test_every_code_that_can_be_stored_has_a_sentence() -> None:
    assert documented_codes() | OWN_CODES <= messages.CAUSES.keys()


@pytest.mark.parametrize(
    ("status", "code", "bunce_id"),
    list(product(Status.values, [*messages.CAUSES, "a_code_of_tomorrow"], [None, "9da67caa"])),
)
def test_every_state_says_what_happened_why_and_what_to_do(
    status: str, code: str, bunce_id: str | None
) -> None:
    assert_complete(describe_segment(segment(status, code, bunce_id=bunce_id), everything()))


@pytest.mark.parametrize("due", [NOW, LATER])
@pytest.mark.parametrize("reason", [*SyncState.Reason.values, "a_future_reason"])
@pytest.mark.parametrize("state", ["paused", "probing"])
def test_every_paused_rate_limiter_says_so_in_the_panel_and_with_each_row_that_waits(
    reason: str, state: Any, due: datetime
) -> None:
    rate_limiter = RateLimiterStatus(
        state, reason, LATER if state == "paused" else None, NOW, "Slow down"
    )
    message = describe_rate_limiter(rate_limiter, NOW)
    assert message is not None
    assert_complete(message)
    assert message.detail == "Slow down"
    for status in ("pending", "in_doubt"):
        row = describe_segment(segment(status, due_at=due), everything(rate_limiter=rate_limiter))
        assert_complete(row)
        assert row.action != str(messages.ACTION_SOON)


@pytest.mark.parametrize("reason", SyncState.Reason.values)
@pytest.mark.parametrize("state", ["paused", "probing"])
def test_a_segment_that_waits_for_the_rate_limiter_shows_its_summary_and_action(
    state: Any, reason: str
) -> None:
    rate_limiter = RateLimiterStatus(state, reason, LATER if state == "paused" else None, NOW)
    limiter = describe_rate_limiter(rate_limiter, NOW)
    assert limiter is not None
    for status in ("pending", "in_doubt"):
        message = describe_segment(segment(status), everything(rate_limiter=rate_limiter))
        assert message.action == f"{limiter.summary} {limiter.action}"


def test_no_probe_is_announced_while_no_worker_can_send_it() -> None:
    probing = RateLimiterStatus("probing", "rate_limited", None, NOW)
    late = Sweep(NOW, 99.0, True, 10.0)
    assert [
        message.summary for message in reasons_to_wait(everything(rate_limiter=probing, sweep=late))
    ] == ["No sweep has run since 12:00:00."]
    paused_limiter = RateLimiterStatus("paused", "rate_limited", LATER, NOW)
    assert [
        message.summary
        for message in reasons_to_wait(everything(rate_limiter=paused_limiter, sweep=late))
    ] == [
        "No sweep has run since 12:00:00.",
        "Paused until 12:03:21 at Bunce's request.",
    ]
    [message] = reasons_to_wait(everything(rate_limiter=probing))
    assert message.summary == "The pause that Bunce asked for is over."


@pytest.mark.parametrize("until", [None, LATER])
@pytest.mark.parametrize("code", [*messages.CAUSES, "a_code_of_tomorrow"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_paused_operation_is_shown_in_the_panel_and_for_each_waiting_row(
    operation: str, code: str, until: datetime | None
) -> None:
    paused = PausedOperation(operation, code, 403, NOW, until, "Not allowed")
    [message] = reasons_to_wait(everything(operations=(paused,)))
    assert_complete(message)
    assert message.detail == "Not allowed"
    waiting = {
        "create": segment("pending"),
        "update": segment("pending", bunce_id="a1"),
        "list": segment("in_doubt", "read_timeout"),
    }
    for needed, row in waiting.items():
        seen = describe_segment(row, everything(operations=(paused,)))
        assert_complete(seen)
        assert (message.summary in seen.action) == (needed == operation)


def paused_operation(
    operation: str = "create", until: datetime | None = LATER, code: str = "forbidden"
) -> PausedOperation:
    return PausedOperation(operation, code, 403, NOW, until, "Not allowed")


CREATES_PAUSED = (
    "Creating segments in Bunce is paused. Bunce has not allowed these requests for any segment"
    " since 12:00:00 (HTTP 403). Check in Bunce's dashboard whether a limit of the plan is reached"
    " and what the API key is allowed to do."
)


def test_a_paused_operation_says_nothing_about_the_others() -> None:
    for operation in OPERATIONS:
        [message] = reasons_to_wait(everything(operations=(paused_operation(operation),)))
        assert "ther requests" not in message.summary
        assert message.summary.count(".") == 1


def test_no_retry_of_an_operation_is_announced_while_nothing_can_be_sent() -> None:
    for changes in ({"sweep": Sweep(NOW, 99.0, True, 10.0)}, {"key_missing": True}):
        probing = everything(operations=(paused_operation(until=None),), **changes)
        assert len(reasons_to_wait(probing)) == 1
        waiting = everything(operations=(paused_operation(),), **changes)
        _, message = reasons_to_wait(waiting)
        assert message.summary == "Creating segments in Bunce is paused."
        assert "retr" not in message.action
    [message] = reasons_to_wait(everything(operations=(paused_operation(),)))
    assert message.action.endswith("Next automatic retry at 12:03:21.")
    [message] = reasons_to_wait(everything(operations=(paused_operation(until=None),)))
    assert message.action.endswith(
        "One request is retried next; the others follow when it succeeds."
    )


def test_no_retry_of_an_operation_is_announced_before_the_rate_limiter_opens() -> None:
    paused_limiter = RateLimiterStatus("paused", "rate_limited", LATER, NOW)
    for until in (None, NOW + timedelta(seconds=9)):
        messages = reasons_to_wait(
            everything(rate_limiter=paused_limiter, operations=(paused_operation(until=until),))
        )
        assert not [one for one in messages if "retr" in one.action]
    later = paused_operation(until=LATER + timedelta(seconds=9))
    messages = reasons_to_wait(everything(rate_limiter=paused_limiter, operations=(later,)))
    assert [one for one in messages if "Next automatic retry at 12:03:30." in one.action]


@pytest.mark.parametrize(
    ("state", "reason", "first"),
    [
        ("paused", "rate_limited", "Paused until 12:03:21 at Bunce's request."),
        ("paused", "unreachable", "Bunce has not responded since 12:00:00."),
        (
            "paused",
            "key_refused",
            (
                "Bunce refused the API key. Set a valid key and restart the web server and the"
                " workers. One request a minute tries the key, the next at 12:03:21."
            ),
        ),
        ("probing", "rate_limited", "The pause that Bunce asked for is over."),
    ],
)
def test_a_segment_that_waits_for_the_rate_limiter_and_its_operation_shows_both(
    state: Any, reason: str, first: str
) -> None:
    rate_limiter = RateLimiterStatus(state, reason, LATER if state == "paused" else None, NOW)
    until = NOW + timedelta(seconds=9) if state == "paused" else None
    both = everything(rate_limiter=rate_limiter, operations=(paused_operation(until=until),))
    message = describe_segment(segment(), both)
    assert message.action == f"{first} {CREATES_PAUSED}"
    assert (message.detail, message.from_bunce) == ("Not allowed", True)


@pytest.mark.parametrize(
    "changes", [{"sweep": Sweep(NOW, 99.0, True, 10.0)}, {"key_missing": True}]
)
def test_bunces_message_about_an_operation_is_not_shown_with_another_cause(
    changes: dict[str, Any],
) -> None:
    seen = everything(operations=(paused_operation(),), **changes)
    message = describe_segment(segment(), seen)
    assert "is paused" not in message.action
    assert message.detail == ""


@pytest.mark.parametrize("status", ["synced", "rejected", "pending"])
def test_a_requested_refresh_says_why_it_waits(status: str) -> None:
    row = segment(status, bunce_id="a1", refresh_requested_at=NOW)
    paused = paused_operation("read", code="not_found")
    message = describe_segment(row, everything(operations=(paused,)))
    assert_complete(message)
    assert message.action.endswith(
        "its result appears here. Refreshing segments from Bunce is paused. Bunce has found none"
        " of the requested segments since 12:00:00. Check in Bunce's dashboard whether these"
        " segments were deleted. If they still exist, check BUNCE_SYNC['BASE_URL'] and whether the"
        " API key belongs to their account. Next automatic retry at 12:03:21."
    )
    assert message.detail == "Not allowed"
    if status == "synced":
        assert "nothing to do" not in message.action
    row.refresh_requested_at = None
    assert "Refreshing" not in describe_segment(row, everything(operations=(paused,))).action


def test_a_refresh_that_no_worker_can_do_does_not_say_that_there_is_nothing_to_do() -> None:
    row = segment("synced", bunce_id="a1", refresh_requested_at=NOW)
    message = describe_segment(row, everything(sweep=Sweep(NOW, 99.0, True, 10.0)))
    assert "nothing to do" not in message.action
    assert "No sweep has run since 12:00:00." in message.action


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"sent_at": None}, "It was added here and has not been sent yet."),
        ({}, "It will be sent again."),
        (
            {"bunce_id": "a1", "sent_digest": "of before"},
            "It was changed here, and the change has not been sent yet.",
        ),
        (
            {"bunce_id": "a1", **Segment.digests_of({"name": "VIP", "description": None})},
            "It will be sent again.",
        ),
    ],
)
def test_a_row_says_whether_it_waits_for_its_first_attempt(
    values: dict[str, Any], why: str
) -> None:
    assert describe_segment(segment(**values), everything()).cause == why


@pytest.mark.parametrize(
    ("status", "code", "what"),
    [
        ("pending", "", "Waiting to be updated in Bunce."),
        ("rejected", "conflict", "Bunce did not accept the change."),
    ],
)
def test_only_what_is_known_of_a_change_is_shown(status: str, code: str, what: str) -> None:
    assert describe_segment(segment(status, code, bunce_id="a1"), everything()).summary == what


def test_a_segment_that_is_gone_is_looked_for_before_it_is_created_again() -> None:
    row = segment("rejected", "not_found", bunce_id="a1")
    first = "First check in Bunce's dashboard that it is gone. If it is gone and still needed,"
    todo = describe_segment(row, everything(), {"push"}).action
    assert todo.startswith(f"{first} “Create again” creates it in Bunce with a new id.")
    todo = describe_segment(row, everything(), ()).action
    assert todo.startswith(f"{first} a colleague who can push segments can create it again.")


def test_a_difference_is_settled_by_those_who_may() -> None:
    row = segment("synced", "drift", bunce_id="a1")
    ours, theirs = "“Push ours” replaces", "“Take theirs” replaces"
    readers: list[tuple[tuple[messages.Permission, ...], list[str]]] = [
        ((), []),
        (("change",), []),
        (("push",), [ours]),
        (("push", "change", "settle"), [ours, theirs]),
    ]
    for permissions, buttons in readers:
        todo = describe_segment(row, everything(), permissions).action
        assert [text for text in (ours, theirs) if text in todo] == buttons
        assert todo.count("A colleague who can") == 2 - len(buttons)


PAUSE = Pause(by="ada", reason="Moving house", since=NOW)
BLOCK = BlockHold(id=7, process="www@web1, process 42", reason="", since=NOW, segments=1200)


def test_a_pause_says_who_when_and_why_and_can_be_ended_in_the_panel() -> None:
    paused = everything(pause=PAUSE)
    [message] = reasons_to_wait(paused)
    assert message.summary.startswith("Paused by ada since 12:00:00:")
    assert message.cause == "Reason: “Moving house”."
    assert (message.remedy, message.urgent) == ("resume", False)
    assert_complete(message)
    for row in (segment(), segment(bunce_id="a1")):
        assert describe_segment(row, paused).action == f"{message.summary} {message.action}"
        assert is_held(row, paused)
    doubtful = segment("in_doubt", "read_timeout")
    assert "Paused by" not in describe_segment(doubtful, paused).action, "reads go on"
    assert not is_held(doubtful, paused)


def test_a_block_that_holds_segments_names_the_command_that_releases_them() -> None:
    held = everything(holds=(BLOCK,))
    [message] = reasons_to_wait(held)
    assert_complete(message)
    assert "1,200" in message.summary
    assert message.cause == "It runs as www@web1, process 42. Reason: “none given”."
    assert message.command == "python manage.py bunce_resume --hold 7"
    assert message.action.endswith(message.command)
    row = segment(hold_id=7)
    assert describe_segment(row, held).action.endswith(message.command)
    assert is_held(row, held)
    assert not is_held(segment(), held)
    assert reasons_to_wait(everything(holds=(replace(BLOCK, segments=0),))) == []


def test_an_import_that_links_holds_creates_and_nothing_else() -> None:
    run = ImportStatus("ada", NOW, None, cancelled=False, adopt=True, pages=3, counts={})
    importing = everything(imported=run)
    [message] = reasons_to_wait(importing)
    assert_complete(message)
    assert message.summary in describe_segment(segment(), importing).action
    assert message.summary not in describe_segment(segment(bunce_id="a1"), importing).action
    for changes in ({"adopt": False}, {"finished_at": NOW}):
        assert reasons_to_wait(everything(imported=replace(run, **changes))) == []


def test_only_what_keeps_the_operation_waiting_is_a_reason() -> None:
    waiting = everything(
        pause=PAUSE,
        elsewhere={"https://a.test:443 live": 3},
        operations=(paused_operation("create"),),
    )
    assert reason_to_wait(waiting, Operation.READ, Operation.LIST) == ""
    assert reason_to_wait(waiting, Operation.READ, Operation.UPDATE).startswith("Paused by ada")
    assert reason_to_wait(everything(), *Operation) == ""
    assert "another account" in reason_to_wait(everything(strange_key_since=NOW), Operation.READ)


LIVE = "https://api.bunce.so:443 live"
SANDBOX = "https://sandbox.api.bunce.so:443 sandbox"


@pytest.mark.parametrize(
    ("count", "summary"),
    [
        (1, "1 segment belongs to live (api.bunce.so); this site uses"),
        (1312, "1,312 segments belong to live (api.bunce.so); this site uses"),
    ],
)
def test_segments_of_another_environment_are_counted(count: int, summary: str) -> None:
    [message] = reasons_to_wait(everything(environment=SANDBOX, elsewhere={LIVE: count}))
    assert message.summary == f"{summary} sandbox (sandbox.api.bunce.so)."
    assert message.command == "python manage.py bunce_rehome"
    assert_complete(message)


@pytest.mark.parametrize("status", Status.values)
def test_a_segment_of_another_environment_says_so_whatever_its_state(status: str) -> None:
    row = segment(status, "conflict", bunce_id="a1", environment="http://127.0.0.1:8790 live")
    message = describe_segment(row, everything(environment=SANDBOX))
    assert message.summary == "Belongs to live (127.0.0.1:8790)."
    assert_complete(message)


def test_a_key_of_another_account_is_urgent() -> None:
    strange = everything(strange_key_since=NOW)
    [message] = problems_to_fix(strange)
    assert_complete(message)
    assert message.urgent
    assert describe_segment(segment(), strange).action.startswith(message.summary)


def test_an_imported_segment_says_when_it_was_imported() -> None:
    row = segment("synced", bunce_id="a1", sent_at=None, imported_at=NOW)
    row.settled = row.field_digests(row.UPDATE_FIELDS)
    assert describe_segment(row, everything()).cause == "It was imported from Bunce at 12:00:00."
    row.sent_at = NOW
    assert describe_segment(row, everything()).cause == "Bunce confirmed it at 12:00:00."


def test_bunces_responses_are_described_in_plain_words() -> None:
    failed = "an HTTP success whose body reports a failure."
    assert describe_problem("says_failed") == f"Bunce responded with {failed}"
    assert describe_problem("forbidden").startswith(
        "Bunce does not allow this request: a firewall blocks it,"
    )
    paused = (paused_operation("list", code="says_failed"), paused_operation("list", code="paging"))
    first, second = reasons_to_wait(everything(operations=paused))
    assert first.cause == f"Bunce has responded to these requests since 12:00:00 with {failed}"
    assert second.cause == "The end of the list could not be determined since 12:00:00."


def test_texts_follow_the_style() -> None:
    assert "omebody" not in Path(messages.__file__).read_text("utf-8")


def test_a_pause_longer_than_the_app_waits_shows_both_times() -> None:
    asked = NOW + timedelta(days=1)
    rate_limiter = RateLimiterStatus("paused", "rate_limited", LATER, NOW, asked_until=asked)
    message = describe_rate_limiter(rate_limiter, NOW)
    assert message is not None
    assert_complete(message)
    assert message.summary == "Paused until March 5, 2026 12:00:00 at Bunce's request."
    assert message.action.startswith("One request at 12:03:21 checks whether")
    row = describe_segment(segment("pending"), everything(rate_limiter=rate_limiter))
    assert "March 5, 2026 12:00:00" in row.action
    assert "12:03:21" in row.action


def test_a_row_that_bunce_does_not_have_keeps_its_cause_while_it_waits() -> None:
    row = segment("pending", "server_error", last_error="Oops", absent_at=NOW)
    message = describe_segment(row, everything())
    assert message.cause == (
        "Bunce had an internal error. Bunce's whole list was searched at 12:00:00 and does not"
        " contain it, so it is safe to send it again."
    )
    assert message.detail == "Oops"


def test_an_open_rate_limiter_has_no_message() -> None:
    assert describe_rate_limiter(RateLimiterStatus(), NOW) is None


def test_a_pause_is_shown_with_its_end_in_the_sites_time_zone(settings: Any) -> None:
    settings.TIME_ZONE = "Africa/Lagos"
    message = describe_rate_limiter(RateLimiterStatus("paused", "rate_limited", LATER, NOW), NOW)
    assert message is not None
    assert message.summary == "Paused until 13:03:21 at Bunce's request."


def test_a_time_on_another_day_includes_the_date() -> None:
    message = describe_rate_limiter(
        RateLimiterStatus("paused", "unreachable", LATER, NOW - timedelta(days=1)), NOW
    )
    assert message is not None
    assert message.summary == "Bunce has not responded since March 3, 2026 12:00:00."


def test_a_row_that_waits_for_a_retry_says_when_and_how_to_retry_at_once() -> None:
    message = describe_segment(segment("pending", "refused", due_at=LATER), everything())
    assert message.cause == "Bunce's server refused the connection."
    assert message.action == "Next automatic retry at 12:03:21. “Push now” retries at once."


@pytest.mark.parametrize(
    ("status", "code", "button"),
    [
        ("pending", "refused", "“Push now”"),
        ("rejected", "conflict", "“Retry”"),
        ("rejected", "not_found", "“Refresh from Bunce”"),
        ("synced", "drift", "“Push ours”"),
        ("synced", "server_error", "“Refresh from Bunce”"),
    ],
)
def test_buttons_and_forms_are_named_only_to_readers_who_have_them(
    status: str, code: str, button: str
) -> None:
    row = segment(status, code, bunce_id="a1", due_at=LATER)
    assert button in describe_segment(row, everything()).action
    assert button in describe_segment(row, everything(), {"push"}).action
    readers: tuple[tuple[Permission, ...], ...] = ((), ("change",))
    for reader in readers:
        todo = describe_segment(row, everything(), reader).action
        assert "“" not in todo
        assert "colleague who can" in todo or todo.endswith("nothing to do.")
    assert "below" not in describe_segment(row, everything(), {"push"}).action


def test_without_permissions_the_text_says_whom_to_ask() -> None:
    message = describe_segment(segment("rejected", "conflict"), everything(), ())
    assert message.action == (
        "Ask a colleague who can change segments to correct it: it is then sent again. If the cause"
        " is resolved, a colleague who can push segments can send it unchanged."
    )
    message = describe_segment(segment("pending", "refused", due_at=LATER), everything(), ())
    assert message.action == "Next automatic retry at 12:03:21. There is nothing to do."


def test_no_sentence_repeats_another() -> None:
    row = segment("pending", "read_timeout", last_error="no answer in time")
    message = describe_segment(row, everything())
    assert (message.cause, message.detail) == ("Bunce did not respond in time.", "")


def test_a_rejected_row_shows_bunces_message() -> None:
    message = describe_segment(
        segment("rejected", "conflict", last_error="name is taken"), everything()
    )
    assert message.detail == "name is taken"
    assert "Retry" in message.action


def test_a_duplicate_names_the_other_one_and_shows_no_bare_id() -> None:
    message = describe_segment(
        segment("synced", bunce_duplicate_id="b7", bunce_id="a1"), everything()
    )
    assert "second segment for it, b7:" in message.cause
    assert message.detail == ""


def test_an_old_failure_is_not_shown_while_the_row_is_being_sent() -> None:
    message = describe_segment(
        segment("sending", "refused", last_error="127.0.0.1: no"), everything()
    )
    assert message.detail == ""
    assert "12:00:00" in message.cause


def test_a_row_in_doubt_promises_that_it_is_not_sent_twice() -> None:
    for due in (NOW, LATER):
        message = describe_segment(segment("in_doubt", "read_timeout", due_at=due), everything())
        assert "cannot be created twice" in message.action


def test_a_requested_refresh_is_mentioned() -> None:
    row = segment("synced", bunce_id="a1", refresh_requested_at=NOW)
    assert describe_segment(row, everything()).action.endswith("its result appears here.")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"key_missing": True}, "Nothing is sent: there is no API key."),
        (
            {"configuration_problem": "BUNCE_SYNC['LEASE'] must."},
            "Nothing is sent: a setting is invalid.",
        ),
        ({"sweep": Sweep(None, None, True, 10.0)}, "No worker has run yet."),
        ({"sweep": Sweep(NOW, 99.0, True, 10.0)}, "No sweep has run since 12:00:00."),
    ],
)
def test_problems_to_fix_are_shown_everywhere(changes: dict[str, Any], what: str) -> None:
    everywhere = everything(**changes)
    [message] = problems_to_fix(everywhere)
    assert message.summary == what
    assert_complete(message)
    for status in ("pending", "in_doubt"):
        assert describe_segment(segment(status), everywhere).action.startswith(what)


def test_the_command_that_starts_a_worker_is_the_sites_own() -> None:
    [message] = problems_to_fix(everything(sweep=Sweep(None, None, True, 10.0)))
    assert message.action == "Start one: celery -A project worker -B"


@pytest.mark.parametrize(
    ("by", "command"),
    [
        ("worker", COMMAND),
        ("loop", "python manage.py bunce_sweep --loop"),
        ("cron", "python manage.py bunce_sweep --max-seconds 50"),
    ],
)
def test_the_command_starts_what_ran_the_last_sweep(by: str, command: str) -> None:
    [message] = problems_to_fix(everything(sweep=Sweep(NOW, 99.0, True, 10.0, by)))
    assert message.action.endswith(f": {command}")


def test_every_outcome_and_decision_of_a_call_has_a_sentence() -> None:
    assert messages.OUTCOME.keys() == set(ApiCall.Outcome)
    for decision in ApiCall.Decision.values:
        message = describe_decision(ApiCall(decision=decision, decided_at=NOW), NOW)
        assert "12:00:00" in message
        assert "%(" not in message
    assert describe_decision(ApiCall(), NOW) == ""


def test_an_unknown_code_is_named() -> None:
    assert "a_code_of_tomorrow" in describe_problem("a_code_of_tomorrow")


STATUSES = [*range(300, 309), *range(400, 432), 451, 499, 500, 502, 503, 504, 520, 599]


@pytest.mark.parametrize("operation", ["read", "list"])
@pytest.mark.parametrize("status", STATUSES)
def test_no_refusal_of_a_read_speaks_of_content(status: int, operation: str) -> None:
    with pytest.raises(exceptions.BunceError) as caught:
        read_json(RawResponse(status, {}, b"{}"))
    result = result_of(caught.value, sent=True, operation=Operation(operation))
    sentence = describe_problem(result.code)
    assert "content" not in sentence, sentence
    if operation == "list":
        assert "segment with this id" not in sentence


# Clocks of hosts


@pytest.mark.parametrize(
    ("ahead", "english", "french"),
    [
        (240.9, "at least 240 s ahead of", "avance d\u2019au moins 240 s sur"),
        (-7200.5, "at least 7,200 s behind", "retarde d\u2019au moins 7\u202f200 s sur"),
    ],
)
def test_a_wrong_clock_names_the_host_and_what_to_do(
    ahead: float, english: str, french: str
) -> None:
    clock = HostClock("worker-2", ahead, NOW - timedelta(days=1))
    status = everything(clocks=(clock,))
    [message] = describe_clocks(status)
    assert (message.urgent, "NTP" in message.action) == (False, True)
    assert f"“worker-2” is {english} the database's" in message.summary
    assert "lost or sent twice" in message.cause
    assert reasons_to_wait(status) == [], "nothing waits for it"
    with translation.override("fr"):
        [message] = describe_clocks(status)
    assert "worker-2" in message.summary
    assert french in message.summary.replace("\xa0", "\u202f")
    assert "horloge" in message.cause
