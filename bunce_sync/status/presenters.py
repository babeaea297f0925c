"""The messages about a segment, a call, and whatever keeps requests waiting.

They are chosen from the texts of ``messages.py``, whose placeholders are filled in here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

from django.utils import formats, timezone

from bunce_sync.choices import Decision, Operation, Reason, Status, Sweeper
from bunce_sync.models import ApiCall, Segment
from bunce_sync.routing import (
    CRON_COMMAND,
    LOOP_COMMAND,
    celery_app,
    known_destination,
    worker_command,
)
from bunce_sync.status import messages
from bunce_sync.status.messages import MessageTemplate, Permission, Step, Steps, Text
from bunce_sync.status.status import (
    BlockHold,
    Pause,
    PausedOperation,
    RateLimiterStatus,
    SyncStatus,
)

REHOME_COMMAND: Final = "python manage.py bunce_rehome"


@dataclass(frozen=True, slots=True)
class StatusMessage:
    """A state in words.

    Attributes:
        summary: what happened.
        cause: why.
        action: what to do next, or that there is nothing to do.
        detail: Bunce's message or a technical detail, not translated; often empty.
        from_bunce: whether ``detail`` is Bunce's message.
        urgent: whether nothing is sent before a person acts.
        command: a command line that ``action`` contains; or empty.
        remedy: what a person may choose in the panel to end this; or empty.
        segment_id: the segment on whose page a person has to decide about this, though everything
            else is sent; or None.
    """

    summary: str
    cause: str
    action: str
    detail: str = ""
    from_bunce: bool = False
    urgent: bool = False
    command: str = ""
    remedy: Literal["", "resume"] = ""
    segment_id: int | None = None


# ── Segments ──────────────────────────────────────────────────────────────────────────────────


def describe_segment(
    segment: Segment,
    status: SyncStatus,
    permissions: Collection[Permission] = get_args(Permission),
) -> StatusMessage:
    """Return the message about a segment.

    Args:
        segment: the row as it is now.
        status: of the whole sync; it explains why a waiting row waits.
        permissions: what the reader may do. Buttons are named only to readers who have them.
    """
    if not segment.is_here:
        return _render(
            messages.SEGMENT_ELSEWHERE,
            urgent=False,
            elsewhere=describe_environment(segment.environment),
            here=describe_environment(status.environment),
        )
    if hold := _find_hold(segment, status):
        return _describe_hold(messages.SEGMENT_HELD, hold, status.now)
    blocker = _find_blocker(_next_operation(segment), status)
    steps = [*blocker.steps] or _resolve(_next_steps(segment, status.now), permissions)
    if segment.refresh_requested_at is not None:
        refresh_blocker = _find_blocker(Operation.READ, status)
        if refresh_blocker.steps:
            steps = [step for step in steps if step != str(messages.NO_ACTION)]
        steps.append(str(messages.ACTION_REFRESH_REQUESTED))
        steps += [step for step in refresh_blocker.steps if step not in blocker.steps]
        blocker = blocker if blocker.detail else refresh_blocker

    detail, from_bunce = _detail(segment)
    if not detail:
        detail, from_bunce = blocker.detail, blocker.from_bunce
    return StatusMessage(
        summary=str(summarize_segment(segment)),
        cause=str(_cause(segment, status.now)),
        action=" ".join(steps),
        detail=detail,
        from_bunce=from_bunce,
    )


def describe_environment(environment: str) -> str:
    """Return an environment in words, such as “live (api.bunce.so)”."""
    url, _separator, kind = environment.partition(" ")
    parts = urlsplit(url)
    usual = {"http": 80, "https": 443}.get(parts.scheme) == parts.port
    return f"{kind} ({parts.hostname if usual else parts.netloc})"


def is_held(segment: Segment, status: SyncStatus) -> bool:
    """Return whether a waiting segment is held: by the pause, a block, or an import."""
    operation = _next_operation(segment)
    return _find_hold(segment, status) is not None or bool(_holding(operation, status))


def _find_hold(segment: Segment, status: SyncStatus) -> BlockHold | None:
    if segment.status != Status.PENDING or segment.hold_id is None:
        return None
    return next((hold for hold in status.holds if hold.id == segment.hold_id), None)


def _holding(operation: Operation | None, status: SyncStatus) -> list[StatusMessage]:
    """Return what a person or an import has held of this operation."""
    holding = []
    if status.pause and operation in (Operation.CREATE, Operation.UPDATE):
        holding.append(_describe_pause(status.pause, status.now))
    run = status.imported
    if operation == Operation.CREATE and run and run.holds_creates:
        since = format_time(run.requested_at, status.now)
        holding.append(_render(messages.CREATES_HELD, urgent=False, since=since))
    return holding


def _describe_pause(pause: Pause, now: datetime) -> StatusMessage:
    message = _render(
        messages.PAUSED,
        urgent=False,
        by=pause.by,
        since=format_time(pause.since, now),
        reason=pause.reason or str(messages.NO_REASON),
    )
    return replace(message, remedy="resume")


def _describe_hold(template: MessageTemplate, hold: BlockHold, now: datetime) -> StatusMessage:
    return _render(
        template,
        urgent=False,
        since=format_time(hold.since, now),
        number=hold.segments,
        count=formats.number_format(hold.segments, use_l10n=True, force_grouping=True),
        process=hold.process,
        reason=hold.reason or str(messages.NO_REASON),
        command=release_command(hold.id),
    )


def release_command(hold: int) -> str:
    """Return the command that releases the segments of a ``no_push()`` block."""
    return f"python manage.py bunce_resume --hold {hold}"


def is_paused(segment: Segment, status: SyncStatus) -> bool:
    """Return whether the next operation of a waiting segment is paused or about to be probed."""
    return _find_paused(_next_operation(segment), status) is not None


def paused_until(segment: Segment, status: SyncStatus) -> datetime | None:
    """Return until when no request is made for a waiting segment; None if requests are made."""
    paused = _find_paused(_next_operation(segment), status)
    times = (status.rate_limiter.until, paused.until if paused else None)
    return max(filter(None, times), default=None)


def summarize_segment(segment: Segment) -> Text:
    """Return the state of a segment in a few words."""
    status = Status(segment.status)
    usual = messages.SUMMARY_CREATE if segment.creates else messages.SUMMARY_UPDATE
    return messages.SUMMARY_SPECIAL.get((status, segment.problem_code), usual[status])


def _detail(segment: Segment) -> tuple[str, bool]:
    """Return the detail of the last problem, and whether it is Bunce's message."""
    if segment.status == Status.SENDING:
        return "", False
    code = segment.problem_code
    return visible_detail(code, segment.last_error), code in messages.DETAIL_FROM_BUNCE


def _cause(segment: Segment, now: datetime) -> Text:
    code = segment.problem_code
    match Status(segment.status):
        case Status.SENDING:
            return _fill(messages.CAUSE_SENDING, time=format_time(segment.sent_at, now))
        case Status.SYNCED if not code and segment.is_untouched_import:
            return _fill(messages.CAUSE_IMPORTED, time=format_time(segment.imported_at, now))
        case Status.SYNCED if not code and segment.synced_at is None:
            return messages.CAUSE_LINKED
        case Status.SYNCED if not code:
            return _fill(messages.CAUSE_SYNCED, time=format_time(segment.synced_at, now))
        case Status.SYNCED if code not in messages.ACTION_SYNCED:
            return _fill(messages.CAUSE_REFRESH_FAILED, cause=describe_problem(code))
        case Status.PENDING if segment.absent_at is not None:
            searched_at = format_time(segment.absent_at, now)
            return _fill(messages.CAUSE_ABSENT, cause=describe_problem(code), time=searched_at)
        case Status.PENDING if not code:
            return _cause_of_waiting(segment)
        case Status.PENDING if code in messages.REFUSALS:
            return messages.CAUSE_EDITED_SINCE
        case Status.IN_DOUBT if code in messages.REFUSALS:
            return messages.CAUSE_DOUBTFUL_REFUSAL
        case _:
            return describe_problem(code, segment.bunce_duplicate_id or segment.last_error)


def _cause_of_waiting(segment: Segment) -> Text:
    """Return why a segment without a problem waits: it is new, changed, or to be sent again."""
    if segment.creates:
        return messages.CAUSE_NEW if segment.sent_at is None else messages.CAUSE_SEND_AGAIN
    edited = segment.content_fingerprint != segment.sent_digest
    return messages.CAUSE_EDITED if edited else messages.CAUSE_SEND_AGAIN


def _next_steps(segment: Segment, now: datetime) -> Steps:
    """Return what happens next to a segment and what to do, if nothing else blocks it."""
    due = format_time(segment.due_at, now) if segment.due_at > now else ""
    match Status(segment.status):
        case Status.PENDING if due:
            return _fill(messages.ACTION_RETRY, time=due), messages.ACTION_PUSH_NOW
        case Status.PENDING:
            return (messages.ACTION_SOON,)
        case Status.SENDING:
            lease_until = format_time(segment.lease_until, now)
            return (_fill(messages.ACTION_SENDING, time=lease_until),)
        case Status.IN_DOUBT if due:
            return (_fill(messages.ACTION_SEARCH_AT, time=due),)
        case Status.IN_DOUBT:
            return (messages.ACTION_SEARCHING,)
        case Status.REJECTED:
            return messages.ACTION_BY_CODE.get(segment.last_code, messages.ACTION_REJECTED)
        case Status.SYNCED:
            return messages.ACTION_SYNCED.get(segment.problem_code, (messages.ACTION_REFRESH,))


def _resolve(steps: Steps, permissions: Collection[Permission]) -> list[str]:
    """Return the texts of the steps for a reader with these permissions."""
    texts = []
    for step in steps:
        if isinstance(step, Step):
            step = step.allowed if step.permission in permissions else step.denied
        texts.append(str(step))
    return texts


def _next_operation(segment: Segment) -> Operation | None:
    """Return the operation that a segment waits for; None if it waits for none."""
    return {
        Status.PENDING: Operation.CREATE if segment.creates else Operation.UPDATE,
        Status.IN_DOUBT: Operation.LIST,
    }.get(Status(segment.status))


# ── Reasons to wait ───────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Blocker:
    """Whatever keeps an operation waiting. Its steps replace the segment's own next steps."""

    steps: tuple[str, ...] = ()
    detail: str = ""
    from_bunce: bool = False


_NO_BLOCKER = _Blocker()


def _find_blocker(operation: Operation | None, status: SyncStatus) -> _Blocker:
    """Return what keeps an operation waiting, if anything does."""
    if operation is None:
        return _NO_BLOCKER
    if problems := problems_to_fix(status):
        return _Blocker((problems[0].summary, problems[0].action))
    if holding := _holding(operation, status):
        return _Blocker(tuple(text for one in holding for text in (one.summary, one.action)))
    limiter = describe_rate_limiter(status.rate_limiter, status.now)
    paused = _find_paused(operation, status)
    if paused is None:
        return _Blocker((limiter.summary, limiter.action)) if limiter else _NO_BLOCKER
    message = describe_operation(paused, status)
    steps: tuple[str, ...] = (message.summary, message.cause, message.action)
    if limiter and limiter.urgent:
        steps = (limiter.summary, limiter.action, *steps)
    elif limiter:
        # Not its action: "there is nothing to do" is untrue while the operation is paused.
        steps = (limiter.summary, *steps)
    return _Blocker(steps, message.detail, message.from_bunce)


def _find_paused(operation: Operation | None, status: SyncStatus) -> PausedOperation | None:
    return next((paused for paused in status.operations if paused.operation == operation), None)


def reason_to_wait(status: SyncStatus, *operations: Operation) -> str:
    """Return why requests of these operations are not made at once; empty if they are."""
    blockers = (_find_blocker(operation, status) for operation in operations)
    return next((" ".join(blocker.steps) for blocker in blockers if blocker.steps), "")


def reasons_to_wait(status: SyncStatus) -> list[StatusMessage]:
    """Return everything that keeps requests waiting, urgent reasons first, then decisions."""
    problems = problems_to_fix(status)
    reasons = [*problems]
    limiter = describe_rate_limiter(status.rate_limiter, status.now)
    # A probe needs a worker and a key: while either is missing, no probe is announced.
    if limiter and not (problems and status.rate_limiter.state == "probing"):
        reasons.append(limiter)
    reasons += [
        describe_operation(paused, status)
        for paused in status.operations
        if not (problems and paused.until is None)
    ]
    reasons += held_back(status)
    reasons += describe_audiences(status)
    return sorted(reasons, key=lambda reason: (not reason.urgent, reason.segment_id is None))


def describe_audiences(status: SyncStatus) -> list[StatusMessage]:
    """Return which audiences wait for a person: held ones, and those whose code failed."""
    held = [
        replace(
            _render(
                messages.PANEL_AUDIENCE_HELD,
                urgent=False,
                key=one.key,
                removals=formats.number_format(one.removals, use_l10n=True, force_grouping=True),
                members=formats.number_format(one.members, use_l10n=True, force_grouping=True),
            ),
            segment_id=one.segment_id,
        )
        for one in status.customers.held
    ]
    failed = [
        _render(
            messages.PANEL_AUDIENCE_FAILED,
            urgent=False,
            key=key,
            command=f"python manage.py bunce_audiences plan {key}",
        )
        for key in status.customers.failed
    ]
    return held + failed


def describe_clocks(status: SyncStatus) -> list[StatusMessage]:
    """Return which hosts have a wrong clock. Nothing of the sync waits for them."""
    return [
        _render(
            messages.CLOCK_AHEAD if one.ahead > 0 else messages.CLOCK_BEHIND,
            urgent=False,
            host=one.host,
            seconds=formats.number_format(int(abs(one.ahead)), use_l10n=True, force_grouping=True),
            time=format_time(one.seen_at, status.now),
        )
        for one in status.clocks
    ]


def held_back(status: SyncStatus) -> list[StatusMessage]:
    """Return what people, code or an import hold back, and what belongs to other environments."""
    reasons = _holding(Operation.CREATE, status)
    reasons += [
        _describe_hold(messages.BLOCK_HOLDS, hold, status.now)
        for hold in status.holds
        if hold.segments
    ]
    reasons += [
        _render(
            messages.ELSEWHERE,
            urgent=False,
            number=count,
            n=formats.number_format(count, use_l10n=True, force_grouping=True),
            elsewhere=describe_environment(environment),
            here=describe_environment(status.environment),
            command=REHOME_COMMAND,
        )
        for environment, count in sorted(status.elsewhere.items())
    ]
    return reasons


def problems_to_fix(status: SyncStatus) -> list[StatusMessage]:
    """Return the problems of the site itself: nothing is sent before a person fixes them."""
    problems = []
    if status.configuration_problem:
        problem = status.configuration_problem
        problems.append(_render(messages.BAD_SETTING, urgent=True, problem=problem))
    elif status.key_missing:
        problems.append(_render(messages.NO_KEY, urgent=True))
    elif key := describe_key(status):
        problems.append(key)
    if status.sweep.late:
        template = messages.NEVER_SWEPT if status.sweep.at is None else _late_sweep(status)
        problems.append(
            _render(
                template,
                urgent=True,
                time=format_time(status.sweep.at, status.now),
                seconds=f"{status.sweep.interval:g}",
                command=start_command(status),
            )
        )
    return problems


def describe_key(status: SyncStatus) -> StatusMessage | None:
    """Return why nothing is sent with the API key; None if it is in order."""
    if status.strange_key_since is None:
        return None
    detail = status.strange_key_detail
    template = messages.UNCHECKED_KEY if detail else messages.STRANGE_KEY
    since = format_time(status.strange_key_since, status.now)
    return _render(template, urgent=True, detail=detail, since=since)


def _late_sweep(status: SyncStatus) -> MessageTemplate:
    by_command = status.sweep.by in (Sweeper.LOOP, Sweeper.CRON)
    return messages.COMMAND_LATE if by_command else messages.SWEEP_LATE


def describe_rate_limiter(limiter: RateLimiterStatus, now: datetime) -> StatusMessage | None:
    """Return why the rate limiter is not open; None if it is."""
    if limiter.state == "open":
        return None
    reason = _reason(limiter)
    if limiter.asked_until is not None:
        template = messages.LONG_PAUSE
    elif limiter.state == "paused":
        template = messages.RATE_LIMITER_PAUSED[reason]
    else:
        template = messages.RATE_LIMITER_PROBING[reason]
    return _render(
        template,
        urgent=limiter.asked_until is None and reason == Reason.KEY_REFUSED,
        detail=limiter.detail,
        until=format_time(limiter.until, now),
        since=format_time(limiter.since, now),
        asked=format_time(limiter.asked_until, now),
    )


def _reason(limiter: RateLimiterStatus) -> Reason:
    return Reason(limiter.reason) if limiter.reason in Reason.values else Reason.UNREACHABLE


def describe_operation(paused: PausedOperation, status: SyncStatus) -> StatusMessage:
    """Return why an operation is paused, and when it is retried."""
    code = paused.code
    if code in messages.UNREADABLE:
        usual_cause = messages.OPERATION_CAUSE_UNREADABLE
    else:
        usual_cause = messages.OPERATION_CAUSE_REFUSED
    action = messages.OPERATION_ACTION.get(code, messages.OPERATION_ACTION_ELSE)
    return StatusMessage(
        summary=str(messages.OPERATION_PAUSED[Operation(paused.operation)]),
        cause=_fill(
            messages.OPERATION_CAUSE.get(code, usual_cause),
            since=format_time(paused.since, status.now),
            status=str(paused.http_status or "-"),
            cause=describe_problem(code),
        ),
        action=f"{action} {_next_probe(paused, status)}".strip(),
        detail=paused.detail,
        from_bunce=code in messages.DETAIL_FROM_BUNCE,
        urgent=code in messages.OPERATION_ACTION,
    )


def _next_probe(paused: PausedOperation, status: SyncStatus) -> Text:
    """Return when a paused operation is retried; empty while something else blocks it longer."""
    if problems_to_fix(status):
        return ""
    limiter = status.rate_limiter
    if paused.until is None:
        return messages.OPERATION_PROBING if limiter.state == "open" else ""
    if limiter.until is not None and limiter.until >= paused.until:
        return ""
    return _fill(messages.OPERATION_NEXT, until=format_time(paused.until, status.now))


def start_command(status: SyncStatus) -> str:
    """Return the command that starts what is missing: a worker with beat, or the sweeps."""
    match status.sweep.by:
        case Sweeper.LOOP:
            return LOOP_COMMAND
        case Sweeper.CRON:
            return CRON_COMMAND
    app = celery_app()
    return worker_command(known_destination(app) if app else None)


# ── Calls ─────────────────────────────────────────────────────────────────────────────────────


def describe_problem(code: str, detail: str = "") -> str:
    """Return a problem in a sentence.

    Args:
        code: as stored in ``Segment.last_code`` and ``ApiCall.code``.
        detail: as stored with it; needed for the codes in ``messages.DETAIL_IS_ID``.
    """
    if code not in messages.CAUSES:
        return _fill(messages.CAUSE_UNKNOWN_CODE, code=code)
    if code in messages.DETAIL_IS_ID:
        return _fill(messages.CAUSES[code], detail=detail)
    return str(messages.CAUSES[code])


def visible_detail(code: str, detail: str) -> str:
    """Return the detail of a problem, or nothing if the sentence on its code says the same."""
    return "" if code in messages.DETAIL_IS_ID | messages.DETAIL_REPEATS else detail


def describe_decision(call: ApiCall, now: datetime) -> str:
    """Return what reconciliation found out about a call; empty if nothing."""
    if not call.decision:
        return ""
    text = messages.DECISION[Decision(call.decision)]
    return _fill(text, time=format_time(call.decided_at, now))


# ── Filling in values ─────────────────────────────────────────────────────────────────────────


def format_time(at: datetime | None, now: datetime) -> str:
    """Return a time of the site's zone to the second, with its date unless that is today's."""
    if at is None:
        return "-"
    local, today = timezone.localtime(at), timezone.localtime(now).date()
    text = formats.time_format(local, "H:i:s")
    return text if local.date() == today else f"{formats.date_format(local)} {text}"


def _fill(text: Text, **values: Any) -> str:
    return str(text % values)


def _render(
    template: MessageTemplate, *, urgent: bool, detail: str = "", **values: Any
) -> StatusMessage:
    return StatusMessage(
        summary=_fill(template.summary, **values),
        cause=_fill(template.cause, **values),
        action=_fill(template.action, **values),
        detail=detail,
        urgent=urgent,
        command=values.get("command", ""),
    )
