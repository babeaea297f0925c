"""Every sentence about where things stand, together, to be read in one go.

Each state of a segment, of the rate limiter, of the sweep and of the settings is told in three parts:
what happened, why, and what to do next. ``telling.py`` chooses among them and fills in the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from bunce_sync.models import ApiCall, Segment, SyncState

Status = Segment.Status
Outcome = ApiCall.Outcome
Decision = ApiCall.Decision
Reason = SyncState.Reason
Operation = ApiCall.Operation

#: Translated now, or when it is shown.
Text: TypeAlias = str | Promise


@dataclass(frozen=True, slots=True)
class MessageTemplate:
    """A state in words to be translated, with names of values to be filled in."""

    summary: Text
    cause: Text
    action: Text


#: What somebody may do about a segment; ``replace`` is to add one and delete another.
Permission: TypeAlias = Literal["change", "push", "replace"]


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do next: in one sentence for those who may, in another for those who may not."""

    permission: Permission
    allowed: Text
    denied: Text


#: What to do next, one after the other.
Steps: TypeAlias = tuple[Text | Step, ...]


NO_ACTION = _("There is nothing to do.")

# ── What: the state of a segment ──────────────────────────────────────────────────────────────

SUMMARY_CREATE: Final = {
    Status.PENDING: _("Waiting to be created in Bunce."),
    Status.SENDING: _("Being created in Bunce right now."),
    Status.SYNCED: _("In Bunce, with the content shown here."),
    Status.IN_DOUBT: _("Sent to Bunce, but it is not known whether Bunce created it."),
    Status.REJECTED: _("Bunce refused to create it."),
}
SUMMARY_UPDATE: Final = SUMMARY_CREATE | {
    Status.PENDING: _("Waiting to be updated in Bunce."),
    Status.SENDING: _("Being updated in Bunce right now."),
    Status.REJECTED: _("Bunce did not accept the change."),
}
SUMMARY_SPECIAL: Final[Mapping[tuple[str, str], Text]] = {
    (Status.SYNCED, "drift"): _("In Bunce, but with other content than here."),
    (Status.SYNCED, "stored_differently"): _("In Bunce, but with other content than was sent."),
    (Status.SYNCED, "all_customers"): _("In Bunce, but “all customers” differs from here."),
    (Status.SYNCED, "duplicate"): _("In Bunce twice."),
    (Status.REJECTED, "not_found"): _("No longer in Bunce."),
}

#: The types Bunce documents; any other is shown as it comes.
TYPES: Final[Mapping[str, Text]] = {"automatic": _("Automatic"), "manual": _("Manual")}

#: In the list the state is a word: the label of ``Segment.Status``, or one of these.
BADGE_RETRYING = _("Retrying")
BADGE_PAUSED = _("Paused, goes on")
BADGE_PAUSE_OVER = _("Paused")
BADGE_GONE = _("No longer here")
BADGE_SYNCED: Final = {
    "drift": _("Changed in Bunce"),
    "stored_differently": _("Differs in Bunce"),
    "all_customers": _("Differs in Bunce"),
    "duplicate": _("Twice in Bunce"),
}
#: After “Retrying” and “Paused, goes on”; with a script the second, third or fourth stands there.
AT_TIME = _("at %(time)s")
IN_SECONDS = _("in %(n)s s")
IN_MINUTES = _("in %(n)s min")
NOW = _("now")

# ── Why: the last problem, by its code ────────────────────────────────────────────────────────

CAUSES: Final[Mapping[str, Text]] = {
    # Nothing was sent.
    "refused": _("Nobody answered at Bunce's address: the connection was refused."),
    "dns": _("Bunce's address could not be found: its name does not resolve."),
    "tls": _("No secure connection to Bunce could be made."),
    "connect_timeout": _("Bunce did not accept a connection in time."),
    "connect_failed": _("No connection to Bunce could be made."),
    "permit_expired": _("Connecting took so long that its turn had passed; nothing was sent."),
    # It was sent, and no whole answer came.
    "read_timeout": _("Bunce did not answer in time."),
    "deadline": _("Bunce's answer came too slowly to wait for its end."),
    "reset": _("The connection broke before Bunce had answered."),
    "closed": _("The connection was closed before Bunce had answered."),
    "cut": _("Bunce's answer broke off in the middle."),
    "tls_broken": _("The secure connection broke before Bunce had answered."),
    # An answer came whose meaning is not known.
    "not_json": _("Bunce's answer could not be read: it is not JSON."),
    "wrong_shape": _("Bunce's answer does not have the documented form."),
    "no_id": _("Bunce's answer names no id."),
    "says_failed": _("Bunce answered with an HTTP success whose body reports a failure."),
    "too_large": _("Bunce's answer was too large to be read."),
    "redirect": _("Bunce's address pointed to another one, which is not followed."),
    "unexpected_status": _("Bunce answered with a status that is not documented."),
    "paging": _("Bunce's list of segments could not be read to its end."),
    "no_content": _("Bunce's answer has no content."),
    "server_error": _("Bunce had an error of its own."),
    "unavailable": _("Bunce is unavailable and asked to wait."),
    # Bunce did not act.
    "rate_limited": _("Bunce asked to wait: too many requests came from this address."),
    "key_refused": _("Bunce did not accept the API key."),
    "forbidden": _(
        "Bunce does not allow this request: a firewall blocks it, a limit of the plan is reached,"
        " or the API key has no right to it."
    ),
    "no_such_address": _(
        "Bunce answered that this address does not exist: the setting BUNCE_SYNC['BASE_URL'] or"
        " BUNCE_SYNC['ENV'] is probably wrong."
    ),
    "rejected": _("Bunce does not accept this content."),
    "conflict": _("Bunce finds this content invalid, or it clashes with what Bunce has already."),
    "not_found": _(
        "Bunce has no segment with this id: somebody removed it, or the API key is for another"
        " account."
    ),
    # Found out here.
    "worker_lost": _("The worker that was sending it stopped before Bunce's answer was noted."),
    "linked_elsewhere": _(
        "Bunce's answer names a segment that already belongs to another row with the same content."
    ),
    "duplicate": _("A late answer showed that Bunce created it a second time, as %(detail)s."),
    "drift": _("It was changed in Bunce after it was sent."),
    "stored_differently": _(
        "Bunce confirmed it, but what Bunce shows differs from what was sent: Bunce adapted it, or"
        " did not apply it."
    ),
    "all_customers": _(
        "Bunce adds all customers only when it creates a segment, so this difference cannot be"
        " settled by sending it again."
    ),
    "internal": _("An error in this site's own software stopped it; the workers' log has more."),
    "row_deleted": _("The segment was deleted here while it was being sent."),
    "": _("No cause was noted."),
}
CAUSE_UNKNOWN_CODE = _("The last request did not succeed (%(code)s).")

CAUSE_NEW = _("It was added here, and no worker has sent it yet.")
CAUSE_EDITED = _("It was changed here, and no worker has sent the change yet.")
CAUSE_SEND_AGAIN = _("It is to be sent again, and no worker has done so yet.")
CAUSE_EDITED_SINCE = _("Bunce refused the content sent before; it has been changed here since.")
CAUSE_SENDING = _("A worker sent it at %(time)s and waits for Bunce's answer.")
CAUSE_SYNCED = _("Bunce confirmed it at %(time)s.")
CAUSE_ABSENT = _(
    "%(cause)s Bunce's whole list was searched at %(time)s and does not have it, so it is safe to"
    " send it again."
)
CAUSE_DOUBTFUL_REFUSAL = _(
    "Bunce refused it, perhaps because an earlier try had created it after all."
)
CAUSE_REFRESH_FAILED = _(
    "Bunce confirmed it before, but the last look into Bunce failed. %(cause)s"
)

# ── What to do next ───────────────────────────────────────────────────────────────────────────

ACTION_SOON = _("A worker sends it within seconds. There is nothing to do.")
ACTION_RETRY = _("It is tried again by itself at %(time)s.")
ACTION_PUSH_NOW = Step("push", _("“Push now” tries at once."), NO_ACTION)
ACTION_SENDING = _(
    "The answer shows here as soon as it comes. Should the worker stop before, others take over"
    " after %(time)s. There is nothing to do."
)
ACTION_SEARCH_AT = _(
    "Bunce's list is searched for it from %(time)s on, when Bunce has surely finished. It is sent"
    " again only if it is not there, so it cannot end up twice. There is nothing to do."
)
ACTION_SEARCHING = _(
    "Bunce's list is being searched for it. It is sent again only if it is not there, so it"
    " cannot end up twice. There is nothing to do."
)
ACTION_REJECTED: Final[Steps] = (
    Step(
        "change",
        _("Change it below and save: that sends it again."),
        _("Ask a colleague who may change segments to correct it: that sends it again."),
    ),
    Step(
        "push",
        _("If the cause is gone, “Retry” sends it unchanged."),
        _("If the cause is gone, a colleague who may push segments can send it unchanged."),
    ),
)
ACTION_NOT_FOUND: Final[Steps] = (
    _("Check in Bunce's dashboard first that it is gone."),
    Step(
        "replace",
        _("Then, if it is still wanted, add it here again and delete this one."),
        _(
            "Then, if it is still wanted, ask a colleague who may add and delete segments to add it"
            " again and delete this one."
        ),
    ),
    Step(
        "push",
        _(
            "If the key was changed by mistake, put the former one back and choose “Check with"
            " Bunce”."
        ),
        _(
            "If the key was changed by mistake, a colleague who may push segments can have it"
            " looked up again once the former one is back."
        ),
    ),
)
ACTION_FORBIDDEN: Final[Steps] = (
    Step(
        "change",
        _("If its content is the cause, change it below and save: that sends it again."),
        _("If its content is the cause, ask a colleague who may change segments to correct it."),
    ),
    Step(
        "push",
        _("If the plan or the key's rights have changed, “Retry” sends it unchanged."),
        _(
            "If the plan or the key's rights have changed, a colleague who may push segments can"
            " send it unchanged."
        ),
    ),
)
ACTION_NO_SUCH_ADDRESS: Final[Steps] = (
    _("Correct the setting, and restart web server and workers."),
    Step(
        "push",
        _("Then “Retry” sends it unchanged."),
        _("Then a colleague who may push segments can send it unchanged."),
    ),
)
ACTION_BY_CODE: Final[Mapping[str, Steps]] = {
    "not_found": ACTION_NOT_FOUND,
    "forbidden": ACTION_FORBIDDEN,
    "no_such_address": ACTION_NO_SUCH_ADDRESS,
}
ACTION_REFRESH = Step(
    "push",
    _("“Check with Bunce” looks again."),
    _("A colleague who may push segments can have it looked up again."),
)
_COPY_THEIRS = Step(
    "change",
    _("To keep Bunce's content, copy it below and save."),
    _("To keep Bunce's content, ask a colleague who may change segments to copy it here."),
)
ACTION_SYNCED: Final[Mapping[str, Steps]] = {
    "": (NO_ACTION,),
    "stored_differently": (
        _("If the difference does not matter, there is nothing to do."),
        Step(
            "push",
            _("“Push now” sends it once more."),
            _("A colleague who may push segments can send it once more."),
        ),
        _COPY_THEIRS,
    ),
    "all_customers": (
        _("Change it in Bunce's dashboard."),
        Step(
            "push",
            _("Then “Check with Bunce” looks again."),
            _("Then a colleague who may push segments can have it looked up again."),
        ),
    ),
    "drift": (
        Step(
            "push",
            _("“Push now” sends what is wanted here."),
            _("A colleague who may push segments can send what is wanted here."),
        ),
        _COPY_THEIRS,
    ),
    "duplicate": (
        _("Remove the other one in Bunce's dashboard; this one stays linked."),
        ACTION_REFRESH,
    ),
}
_AFTER_KEY = _(
    "Bunce refused the API key. Set a valid one and restart web server and workers; it goes on by"
    " itself once Bunce accepts the key."
)
_AFTER_OUTAGE = _(
    "Bunce is not answering: it goes on by itself once Bunce does. There is nothing to do."
)
_AFTER_PROBE = _(
    "The pause is over. One request goes first, and this goes on by itself when Bunce answers"
    " that one. There is nothing to do."
)
_AFTER_PAUSE = _(
    "Bunce asked for a pause: it goes on by itself at %(until)s or soon after. There is"
    " nothing to do."
)
ACTION_RATE_LIMITER_CLOSED: Final = {
    Reason.RATE_LIMITED: _AFTER_PAUSE,
    Reason.UNAVAILABLE: _AFTER_PAUSE,
    Reason.KEY_REFUSED: _AFTER_KEY,
    Reason.UNREACHABLE: _AFTER_OUTAGE,
    Reason.CLOCK: _(
        "All requests pause until %(until)s, as the database's clock jumped; it goes on by itself"
        " then. There is nothing to do."
    ),
}
ACTION_LONG_PAUSE = _(
    "Bunce asked for a pause until %(asked)s. One request tries it at %(until)s already; this goes"
    " on by itself once Bunce answers. There is nothing to do."
)
ACTION_RATE_LIMITER_PROBING: Final = {
    Reason.RATE_LIMITED: _AFTER_PROBE,
    Reason.UNAVAILABLE: _AFTER_PROBE,
    Reason.KEY_REFUSED: _AFTER_KEY,
    Reason.UNREACHABLE: _AFTER_OUTAGE,
    Reason.CLOCK: _AFTER_PROBE,
}
ACTION_REFRESH_REQUESTED = _("A worker was asked to look into Bunce; what it finds shows here.")

# ── What keeps everything waiting ─────────────────────────────────────────────────────────────

NO_KEY = MessageTemplate(
    summary=_("Nothing is sent: there is no API key."),
    cause=_("The site's setting BUNCE_SYNC['API_KEY'] is empty."),
    action=_(
        "Set it to the secret key from Bunce's dashboard, and restart web server and workers."
    ),
)
BAD_SETTING = MessageTemplate(
    summary=_("Nothing is sent: a setting cannot be used."),
    cause="%(problem)s",
    action=_("Correct it, and restart web server and workers. “manage.py check” tells more."),
)
NEVER_SWEPT = MessageTemplate(
    summary=_("No worker has run yet."),
    cause=_("Segments are sent by a Celery worker, and none has looked after them so far."),
    action=_("Start one: %(command)s"),
)
SWEEP_LATE = MessageTemplate(
    summary=_("No worker is running."),
    cause=_(
        "A worker last looked after the segments at %(time)s, which should happen every"
        " %(seconds)s s."
    ),
    action=_("Start one: %(command)s"),
)
RATE_LIMITER_CLOSED: Final = {
    Reason.RATE_LIMITED: MessageTemplate(
        summary=_("Bunce asked us to pause until %(until)s."),
        cause=_("More requests came from this address than Bunce allows in a minute."),
        action=_(
            "Everything goes on by itself. Should it happen often, look for another program that"
            " uses the same address, or lower RATE_LIMIT."
        ),
    ),
    Reason.UNAVAILABLE: MessageTemplate(
        summary=_("Bunce is unavailable and asked us to pause until %(until)s."),
        cause=_("Since %(since)s Bunce answers that it cannot serve requests for a while."),
        action=_("Everything goes on by itself. There is nothing to do."),
    ),
    Reason.KEY_REFUSED: MessageTemplate(
        summary=_("Bunce refused the key."),
        cause=_("Since %(since)s Bunce answers that it does not accept this site's API key."),
        action=_(
            "Set a valid key and restart web server and workers. One request a minute tries it,"
            " the next at %(until)s."
        ),
    ),
    Reason.UNREACHABLE: MessageTemplate(
        summary=_("Bunce is not answering since %(since)s."),
        cause=_("Several requests in a row came to nothing."),
        action=_("It is tried again by itself at %(until)s, and all else follows when it answers."),
    ),
    Reason.CLOCK: MessageTemplate(
        summary=_("Paused until %(until)s: the database's clock jumped."),
        cause=_("Requests are counted by that clock, so one minute is waited out."),
        action=_("Everything goes on by itself. Should it happen often, look after the clock."),
    ),
}
#: In place of the first part, where Bunce asked for longer than the app goes without a try.
LONG_PAUSE = MessageTemplate(
    summary=_("Bunce asked us to pause until %(asked)s."),
    cause=_("Because this is long, one request tries at %(until)s."),
    action=_("Everything goes on by itself once Bunce answers. There is nothing to do."),
)
_PAUSE_OVER = MessageTemplate(
    summary=_("The pause that Bunce asked for is over."),
    cause=_("One request goes first; the others follow when Bunce answers it."),
    action=NO_ACTION,
)
RATE_LIMITER_PROBING: Final = {
    Reason.RATE_LIMITED: _PAUSE_OVER,
    Reason.UNAVAILABLE: _PAUSE_OVER,
    Reason.KEY_REFUSED: MessageTemplate(
        summary=_("Bunce refused the key; it is being tried again."),
        cause=_("Since %(since)s Bunce answers that it does not accept this site's API key."),
        action=_("If you have not done so, set a valid key and restart web server and workers."),
    ),
    Reason.UNREACHABLE: MessageTemplate(
        summary=_("Bunce is not answering since %(since)s; it is being tried again."),
        cause=_("One request goes first; the others follow when Bunce answers it."),
        action=NO_ACTION,
    ),
    Reason.CLOCK: MessageTemplate(
        summary=_("The pause after the jump of the database's clock is over."),
        cause=_("One request goes first; the others follow when Bunce answers it."),
        action=NO_ACTION,
    ),
}

# ── What keeps one operation waiting ──────────────────────────────────────────────────────────

OPERATION_PAUSED: Final = {
    Operation.CREATE: _("Creating segments in Bunce is paused."),
    Operation.UPDATE: _("Updating segments in Bunce is paused."),
    Operation.READ: _("Looking up single segments in Bunce is paused."),
    Operation.LIST: _("Bunce's list of segments cannot be read, so segments in doubt wait."),
}
#: By the code of the answer.
OPERATION_CAUSE: Final[Mapping[str, Text]] = {
    "forbidden": _(
        "Since %(since)s Bunce does not allow these requests (HTTP %(status)s), whatever the"
        " segment."
    ),
    "not_found": _("Since %(since)s Bunce has none of the segments it was asked for."),
    "no_such_address": _(
        "Since %(since)s Bunce answers that this address does not exist (HTTP %(status)s)."
    ),
    "says_failed": _(
        "Since %(since)s Bunce answers each of these requests with an HTTP success whose body"
        " reports a failure."
    ),
    "paging": _("Since %(since)s the end of the list cannot be determined."),
}
OPERATION_CAUSE_REFUSED = _("Since %(since)s Bunce refuses these requests (HTTP %(status)s).")
OPERATION_CAUSE_UNREADABLE = _("Since %(since)s Bunce's answers cannot be read. %(cause)s")
OPERATION_ACTION: Final[Mapping[str, Text]] = {
    "forbidden": _(
        "Check in Bunce's dashboard whether a limit of the plan is reached and what the API key may"
        " do."
    ),
    "not_found": _(
        "These segments may have been deleted in Bunce: check its dashboard. If they were not,"
        " check whether the API key belongs to the account that has them, and"
        " BUNCE_SYNC['BASE_URL']."
    ),
    "no_such_address": _(
        "Correct BUNCE_SYNC['BASE_URL'] or BUNCE_SYNC['ENV'], and restart web server and workers."
    ),
}
OPERATION_ACTION_ELSE = _(
    "If it lasts, check BUNCE_SYNC['BASE_URL'], or ask Bunce's support with this message."
)
OPERATION_NEXT = _("Next automatic try at %(until)s.")
OPERATION_PROBING = _("One request tries again next; the others follow when it succeeds.")

# ── The calls made ────────────────────────────────────────────────────────────────────────────

OUTCOME: Final = {
    Outcome.UNDER_WAY: _("A worker waits for Bunce's answer."),
    Outcome.CONFIRMED: _("Bunce carried it out."),
    Outcome.NOT_SENT: _("Nothing left this site, so Bunce cannot have acted."),
    Outcome.RATE_LIMITED: _("Bunce did not act and asked to wait."),
    Outcome.KEY_REFUSED: _("Bunce did not act and refused the API key."),
    Outcome.REJECTED: _("Bunce did not act and refused the request."),
    Outcome.UNKNOWN: _("It was sent, but no usable answer came: Bunce may have acted."),
    Outcome.ABANDONED: _("The worker stopped before the answer was noted: Bunce may have acted."),
    Outcome.DUPLICATE: _("Bunce created a second segment: the answer came too late."),
}
DECISION: Final = {
    Decision.ADOPTED: _("Found in Bunce's list at %(time)s and linked: it had arrived."),
    Decision.ABSENT: _("Not in Bunce's list at %(time)s, so it was safe to send again."),
}
NO_CALLS = ngettext_lazy("No calls in the last %(n)d day.", "No calls in the last %(n)d days.", "n")
CURL_CREATES = _("Careful: running this creates one more segment in Bunce.")

# ── Figures ───────────────────────────────────────────────────────────────────────────────────

USAGE_MINUTE = _("%(used)s of %(limit)s requests used this minute")
USAGE = _("%(used)s of %(limit)s requests used in %(seconds)s s")
USAGE_UNLIMITED = _("%(used)s requests in %(seconds)s s, without a limit")
CHART: Final = {"accepted": _("accepted"), "rejected": _("rejected"), "failed": _("failed")}
AGO_SECONDS = _("%(n)s s ago")
AGO_MINUTES = _("%(n)s min ago")
COPY = _("Copy")
COPIED = _("Copied")
COPY_COMMAND = _("Copy the command")
ZONE = _("Times are those of %(zone)s.")
COPY_ID = _("Copy the Bunce id %(id)s")
NOT_UPDATED = _("This page is no longer kept up to date: reload it.")
SITE_UNREACHABLE = _(
    "The site does not answer: what you see is as it was at %(time)s. It is asked again by itself."
)
RESUMED = _("Nothing keeps requests waiting any more.")
UNSAVED = _(
    "You changed something that is not saved yet. Save it first: that sends the segment as well."
)

# ── What people may ask for ───────────────────────────────────────────────────────────────────

PUSH_NOW, RETRY, REFRESH = _("Push now"), _("Retry"), _("Check with Bunce")
PUSH_MANY = _("Push selected segments now")
RETRY_MANY = _("Retry selected segments")
REFRESH_MANY = _("Check selected segments with Bunce")
PUSHED = ngettext_lazy(
    "%(n)d segment was marked to be sent; what comes of it shows here.",
    "%(n)d segments were marked to be sent; what comes of it shows here.",
    "n",
)
RETRIED = ngettext_lazy(
    "%(n)d segment was marked to be sent again; what comes of it shows here.",
    "%(n)d segments were marked to be sent again; what comes of it shows here.",
    "n",
)
REFRESHED = ngettext_lazy(
    "A worker will look up %(n)d segment in Bunce; what it finds shows here.",
    "A worker will look up %(n)d segments in Bunce; what it finds shows here.",
    "n",
)
NOT_PUSHED = ngettext_lazy(
    "%(n)d segment was left alone: only those that wait or differ in Bunce can be pushed.",
    "%(n)d segments were left alone: only those that wait or differ in Bunce can be pushed.",
    "n",
)
NOT_RETRIED = ngettext_lazy(
    "%(n)d segment was left alone: only those that need attention can be retried.",
    "%(n)d segments were left alone: only those that need attention can be retried.",
    "n",
)
NOT_REFRESHED = ngettext_lazy(
    "%(n)d segment was left alone: Bunce does not have it yet.",
    "%(n)d segments were left alone: Bunce does not have them yet.",
    "n",
)
LOOKED_FOR = ngettext_lazy(
    "%(n)d segment will be looked for in Bunce's list, once Bunce has surely finished with it.",
    "%(n)d segments will be looked for in Bunce's list, once Bunce has surely finished with them.",
    "n",
)
TOO_MANY = _("These were the first %(n)s. Do the same again for the others.")
ALL_REQUESTED = _("All of them were asked for already. What comes of it shows here.")

# ── Deleting ──────────────────────────────────────────────────────────────────────────────────

BUNCE_KEEPS = _(
    "Deleting removes segments here only. Bunce keeps those it has, as its API has no call to"
    " delete one: remove them in Bunce's dashboard as well."
)
BUNCE_HAS_NONE = _("Bunce never confirmed that it has it, so nothing should stay there.")
NEVER_SENT = _("Nothing was ever sent to Bunce, so nothing stays there.")
NOTHING_DELETED = _("Nothing was deleted.")
BUSY: Final = {
    Status.SENDING: _("“%(name)s” is being sent right now: delete it when Bunce has answered."),
    Status.IN_DOUBT: _(
        "“%(name)s” may or may not be in Bunce: delete it when that is settled, or a segment that"
        " nobody knows of could stay there."
    ),
}
TOO_MANY_TO_DELETE = _(
    "Nothing was deleted: delete at most %(n)s segments at a time. Narrow the list down first."
)
FIXED_AFTER_SENDING = _(
    "Fixed since the segment was first sent: Bunce's API has no call that changes it."
)

#: Codes whose detail is Bunce's own message; with the others it is a technical remark.
DETAIL_FROM_BUNCE: Final = frozenset(
    {
        *("rejected", "conflict", "forbidden", "not_found", "no_such_address"),
        *("key_refused", "rate_limited", "server_error", "unavailable", "says_failed"),
    }
)
#: Codes whose detail only says once more, and technically, what the sentence above says.
DETAIL_REPEATS: Final = frozenset({"read_timeout", "deadline", "reset", "no_content"})
#: Codes whose detail is an id, which is part of a sentence above.
DETAIL_IS_ID: Final = frozenset({"duplicate", "linked_elsewhere"})
REFUSALS: Final = frozenset({"rejected", "conflict"})
#: Codes of successes that cannot be read.
UNREADABLE: Final = frozenset({"not_json", "wrong_shape", "no_id", "too_large"})
