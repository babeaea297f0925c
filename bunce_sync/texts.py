"""Every sentence about where things stand, together, to be read in one go.

Each state of a segment, of the gate, of the sweep and of the settings is told in three parts:
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

#: Translated now, or when it is shown.
Text: TypeAlias = str | Promise


@dataclass(frozen=True, slots=True)
class Template:
    """A state in words to be translated, with names of values to be filled in."""

    what: Text
    why: Text
    todo: Text


#: What somebody may do about a segment; ``replace`` is to add one and delete another.
Right: TypeAlias = Literal["change", "push", "replace"]


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do next: in one sentence for those who may, in another for those who may not."""

    right: Right
    do: Text
    ask: Text


#: What to do next, one after the other.
Todo: TypeAlias = tuple[Text | Step, ...]


NOTHING_TO_DO = _("There is nothing to do.")

# ── What: the state of a segment ──────────────────────────────────────────────────────────────

WHAT_CREATE: Final = {
    Status.PENDING: _("Waiting to be created in Bunce."),
    Status.SENDING: _("Being created in Bunce right now."),
    Status.SYNCED: _("In Bunce, with the content shown here."),
    Status.IN_DOUBT: _("Sent to Bunce, but it is not known whether Bunce created it."),
    Status.REJECTED: _("Bunce refused to create it."),
}
WHAT_UPDATE: Final = WHAT_CREATE | {
    Status.PENDING: _("Waiting to be updated: Bunce still has the content of before."),
    Status.SENDING: _("Being updated in Bunce right now."),
    Status.REJECTED: _("Bunce refused the change and keeps the content of before."),
}
WHAT_ELSE: Final[Mapping[tuple[str, str], Text]] = {
    (Status.SYNCED, "drift"): _("In Bunce, but with other content than here."),
    (Status.SYNCED, "duplicate"): _("In Bunce twice."),
    (Status.REJECTED, "not_found"): _("No longer in Bunce."),
}

#: The types Bunce documents; any other is shown as it comes.
TYPES: Final[Mapping[str, Text]] = {"automatic": _("Automatic"), "manual": _("Manual")}

#: In the list the state is a word: the label of ``Segment.Status``, or one of these.
BADGE_RETRYING = _("Retrying")
BADGE_PAUSED = _("Paused, goes on")
BADGE_GONE = _("No longer here")
BADGE_SYNCED: Final = {"drift": _("Changed in Bunce"), "duplicate": _("Twice in Bunce")}
#: After one of the two words above; with a script the second, third or fourth stands there.
AT_TIME = _("at %(time)s")
IN_SECONDS = _("in %(n)s s")
IN_MINUTES = _("in %(n)s min")
NOW = _("now")

# ── Why: the last problem, by its code ────────────────────────────────────────────────────────

WHY: Final[Mapping[str, Text]] = {
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
    "says_failed": _("Bunce answered with a success that calls itself a failure."),
    "too_large": _("Bunce's answer was too large to be read."),
    "redirect": _("Bunce's address pointed to another one, which is not followed."),
    "unexpected_status": _("Bunce answered with a status that is not documented."),
    "paging": _("Bunce's list of segments could not be read to its end."),
    "server_error": _("Bunce had an error of its own."),
    # Bunce did not act.
    "rate_limited": _("Bunce asked to wait: too many requests came from this address."),
    "key_refused": _("Bunce did not accept the API key."),
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
    "duplicate": _("A late answer showed that Bunce created it a second time, as %(said)s."),
    "drift": _("Somebody changed it in Bunce."),
    "not_in_bunce": _("Bunce's whole list was searched and does not have it: safe to send again."),
    "internal": _("An error in this site's own software stopped it; the workers' log has more."),
    "row_deleted": _("The segment was deleted here while it was being sent."),
    "": _("No cause was noted."),
}
WHY_UNKNOWN_CODE = _("The last request did not succeed (%(code)s).")

WHY_NEW = _("It was added here, and no worker has sent it yet.")
WHY_EDITED = _("It was changed here, and no worker has sent the change yet.")
WHY_EDITED_SINCE = _("Bunce refused the content sent before; it has been changed here since.")
WHY_SENDING = _("A worker sent it at %(time)s and waits for Bunce's answer.")
WHY_SYNCED = _("Bunce confirmed it at %(time)s.")
WHY_TWIN = _("Bunce refused it, perhaps because an earlier try had created it after all.")
WHY_LOOK_FAILED = _("Bunce confirmed it before, but the last look into Bunce failed. %(why)s")

# ── What to do next ───────────────────────────────────────────────────────────────────────────

TODO_SOON = _("A worker sends it within seconds. There is nothing to do.")
TODO_RETRY = _("It is tried again by itself at %(time)s.")
TODO_HURRY = Step("push", _("“Push now” tries at once."), NOTHING_TO_DO)
TODO_SENDING = _(
    "The answer shows here as soon as it comes. Should the worker stop before, others take over"
    " after %(time)s. There is nothing to do."
)
TODO_LOOK_AT = _(
    "Bunce's list is searched for it from %(time)s on, when Bunce has surely finished. It is sent"
    " again only if it is not there, so it cannot end up twice. There is nothing to do."
)
TODO_LOOKING = _(
    "Bunce's list is being searched for it. It is sent again only if it is not there, so it"
    " cannot end up twice. There is nothing to do."
)
TODO_REJECTED: Final[Todo] = (
    Step(
        "change",
        _("Change it below and save: that sends it again."),
        _("Ask somebody who may change segments to correct it: that sends it again."),
    ),
    Step(
        "push",
        _("If the cause is gone, “Retry” sends it unchanged."),
        _("If the cause is gone, somebody who may push segments can send it unchanged."),
    ),
)
TODO_NOT_FOUND: Final[Todo] = (
    Step(
        "replace",
        _("If it is still wanted, add it here anew and delete this one."),
        _(
            "If it is still wanted, ask somebody who may add and delete segments to add it anew"
            " and delete this one."
        ),
    ),
    Step(
        "push",
        _(
            "If the key was changed by mistake, put the former one back and choose “Check with"
            " Bunce”."
        ),
        _(
            "If the key was changed by mistake, somebody who may push segments can have it looked"
            " up again once the former one is back."
        ),
    ),
)
TODO_LOOK_AGAIN = Step(
    "push",
    _("“Check with Bunce” looks again."),
    _("Somebody who may push segments can have it looked up again."),
)
TODO_SYNCED: Final[Mapping[str, Todo]] = {
    "": (NOTHING_TO_DO,),
    "drift": (
        Step(
            "push",
            _("“Push now” sends what is wanted here."),
            _("Somebody who may push segments can send what is wanted here."),
        ),
        Step(
            "change",
            _("To keep Bunce's content, copy it below and save."),
            _("To keep Bunce's content, ask somebody who may change segments to copy it here."),
        ),
    ),
    "duplicate": (
        _("Remove the other one in Bunce's dashboard; this one stays linked."),
        TODO_LOOK_AGAIN,
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
TODO_GATE_CLOSED: Final = {
    Reason.RATE_LIMITED: _(
        "Bunce asked for a pause: it goes on by itself at %(until)s or soon after. There is"
        " nothing to do."
    ),
    Reason.KEY_REFUSED: _AFTER_KEY,
    Reason.UNREACHABLE: _AFTER_OUTAGE,
    Reason.CLOCK: _(
        "All requests pause until %(until)s, as the database's clock jumped; it goes on by itself"
        " then. There is nothing to do."
    ),
}
TODO_GATE_PROBING: Final = {
    Reason.RATE_LIMITED: _AFTER_PROBE,
    Reason.KEY_REFUSED: _AFTER_KEY,
    Reason.UNREACHABLE: _AFTER_OUTAGE,
    Reason.CLOCK: _AFTER_PROBE,
}
TODO_CHECK_ASKED = _("A worker was asked to look into Bunce; what it finds shows here.")

# ── What keeps everything waiting ─────────────────────────────────────────────────────────────

NO_KEY = Template(
    what=_("Nothing is sent: there is no API key."),
    why=_("The site's setting BUNCE_SYNC['API_KEY'] is empty."),
    todo=_("Set it to the secret key from Bunce's dashboard, and restart web server and workers."),
)
BAD_SETTING = Template(
    what=_("Nothing is sent: a setting cannot be used."),
    why="%(trouble)s",
    todo=_("Correct it, and restart web server and workers. “manage.py check” tells more."),
)
NEVER_SWEPT = Template(
    what=_("No worker has run yet."),
    why=_("Segments are sent by a Celery worker, and none has looked after them so far."),
    todo=_("Start one: %(command)s"),
)
SWEEP_LATE = Template(
    what=_("No worker is running."),
    why=_(
        "A worker last looked after the segments at %(time)s, which should happen every"
        " %(seconds)s s."
    ),
    todo=_("Start one: %(command)s"),
)
GATE_CLOSED: Final = {
    Reason.RATE_LIMITED: Template(
        what=_("Bunce asked us to pause until %(until)s."),
        why=_("More requests came from this address than Bunce allows in a minute."),
        todo=_(
            "Everything goes on by itself. Should it happen often, look for another program that"
            " uses the same address, or lower RATE_LIMIT."
        ),
    ),
    Reason.KEY_REFUSED: Template(
        what=_("Bunce refused the key."),
        why=_("Since %(since)s Bunce answers that it does not accept this site's API key."),
        todo=_(
            "Set a valid key and restart web server and workers. One request a minute tries it,"
            " the next at %(until)s."
        ),
    ),
    Reason.UNREACHABLE: Template(
        what=_("Bunce is not answering since %(since)s."),
        why=_("Several requests in a row came to nothing."),
        todo=_("It is tried again by itself at %(until)s, and all else follows when it answers."),
    ),
    Reason.CLOCK: Template(
        what=_("Paused until %(until)s: the database's clock jumped."),
        why=_("Requests are counted by that clock, so one minute is waited out."),
        todo=_("Everything goes on by itself. Should it happen often, look after the clock."),
    ),
}
GATE_PROBING: Final = {
    Reason.RATE_LIMITED: Template(
        what=_("The pause that Bunce asked for is over."),
        why=_("One request goes first; the others follow when Bunce answers it."),
        todo=NOTHING_TO_DO,
    ),
    Reason.KEY_REFUSED: Template(
        what=_("Bunce refused the key; it is being tried again."),
        why=_("Since %(since)s Bunce answers that it does not accept this site's API key."),
        todo=_("If you have not done so, set a valid key and restart web server and workers."),
    ),
    Reason.UNREACHABLE: Template(
        what=_("Bunce is not answering since %(since)s; it is being tried again."),
        why=_("One request goes first; the others follow when Bunce answers it."),
        todo=NOTHING_TO_DO,
    ),
    Reason.CLOCK: Template(
        what=_("The pause after the jump of the database's clock is over."),
        why=_("One request goes first; the others follow when Bunce answers it."),
        todo=NOTHING_TO_DO,
    ),
}

# ── The calls made ────────────────────────────────────────────────────────────────────────────

OUTCOME: Final = {
    Outcome.UNDER_WAY: _("A worker waits for Bunce's answer."),
    Outcome.CONFIRMED: _("Bunce carried it out."),
    Outcome.NOT_SENT: _("Nothing left this site, so Bunce cannot have acted."),
    Outcome.RATE_LIMITED: _("Bunce did not act and asked to wait."),
    Outcome.KEY_REFUSED: _("Bunce did not act and refused the API key."),
    Outcome.REJECTED: _("Bunce did not act and refused the content."),
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
NO_ANSWER = _(
    "The site does not answer: what you see is as it was at %(time)s. It is asked again by itself."
)
GOES_ON = _("Nothing keeps requests waiting any more.")
UNSAVED = _(
    "You changed something that is not saved yet. Save it first: that sends the segment as well."
)

# ── What people may ask for ───────────────────────────────────────────────────────────────────

PUSH_NOW, RETRY, CHECK = _("Push now"), _("Retry"), _("Check with Bunce")
PUSH_MANY = _("Push selected segments now")
RETRY_MANY = _("Retry selected segments")
CHECK_MANY = _("Check selected segments with Bunce")
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
CHECKED = ngettext_lazy(
    "A worker will look up %(n)d segment in Bunce; what it finds shows here.",
    "A worker will look up %(n)d segments in Bunce; what it finds shows here.",
    "n",
)
NOT_PUSHED = ngettext_lazy(
    "%(n)d segment was left alone: only those that wait or were changed in Bunce can be pushed.",
    "%(n)d segments were left alone: only those that wait or were changed in Bunce can be pushed.",
    "n",
)
NOT_RETRIED = ngettext_lazy(
    "%(n)d segment was left alone: only those that need attention can be retried.",
    "%(n)d segments were left alone: only those that need attention can be retried.",
    "n",
)
NOT_CHECKED = ngettext_lazy(
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
ALL_ASKED = _("All of them were asked for already. What comes of it shows here.")

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
ANSWERED: Final = frozenset(
    {
        *("rejected", "conflict", "not_found", "key_refused", "rate_limited"),
        *("server_error", "says_failed"),
    }
)
#: Codes whose detail only says once more, and technically, what the sentence above says.
DETAIL_REPEATS: Final = frozenset({"read_timeout", "deadline", "reset"})
#: Codes whose detail is an id, which is part of a sentence above.
DETAIL_IS_ID: Final = frozenset({"duplicate", "linked_elsewhere"})
REFUSALS: Final = frozenset({"rejected", "conflict"})
