"""All texts about the status of the sync: what happened, why, and what to do.

``presenters.py`` chooses among them and fills in the placeholders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from bunce_sync.choices import Decision, Operation, Outcome, Reason, Status

#: A text that is translated already, or when it is shown.
Text: TypeAlias = str | Promise

#: What a reader may do with a segment; ``settle`` is to change and push it.
Permission: TypeAlias = Literal["change", "push", "settle"]


@dataclass(frozen=True, slots=True)
class MessageTemplate:
    """The texts of a ``StatusMessage``, with placeholders."""

    summary: Text
    cause: Text
    action: Text


@dataclass(frozen=True, slots=True)
class Step:
    """A step that needs a permission, and the text for readers who lack it."""

    permission: Permission
    allowed: Text
    denied: Text


#: What to do, in order.
Steps: TypeAlias = tuple[Text | Step, ...]


NO_ACTION = _("There is nothing to do.")

# ── Segments: what happened ───────────────────────────────────────────────────────────────────

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
#: By status and code; these take precedence over the summaries above.
SUMMARY_SPECIAL: Final[Mapping[tuple[str, str], Text]] = {
    (Status.SYNCED, "drift"): _("In Bunce, but with different content than here."),
    (Status.SYNCED, "stored_differently"): _("In Bunce, but with different content than was sent."),
    (Status.SYNCED, "all_customers"): _("In Bunce, but “all customers” differs from here."),
    (Status.SYNCED, "duplicate"): _("In Bunce twice."),
    (Status.REJECTED, "not_found"): _("No longer in Bunce."),
}

#: The types Bunce documents; others are shown as they are.
TYPES: Final[Mapping[str, Text]] = {"automatic": _("Automatic"), "manual": _("Manual")}

#: A badge shows the label of ``Status``, or one of these.
BADGE_RETRYING = _("Retrying")
BADGE_PAUSED = _("Paused, resumes")
BADGE_PAUSE_OVER = _("Paused")
BADGE_GONE = _("Deleted")
BADGE_HELD = _("Held")
BADGE_ELSEWHERE = _("Belongs to %(environment)s")
BADGE_SYNCED: Final = {
    "drift": _("Changed in Bunce"),
    "stored_differently": _("Differs in Bunce"),
    "all_customers": _("Differs in Bunce"),
    "duplicate": _("Twice in Bunce"),
}
#: These follow “Retrying” and “Paused, resumes”. The script replaces the first with the others.
AT_TIME = _("at %(time)s")
IN_SECONDS = _("in %(n)s s")
IN_MINUTES = _("in %(n)s min")
NOW = _("now")

# ── Segments and calls: why ───────────────────────────────────────────────────────────────────

#: By the codes of ``Segment.last_code`` and ``ApiCall.code``.
CAUSES: Final[Mapping[str, Text]] = {
    # Nothing was sent.
    "refused": _("Bunce's server refused the connection."),
    "dns": _("The host name of Bunce's API could not be resolved."),
    "tls": _("A secure connection to Bunce could not be established."),
    "connect_timeout": _("Bunce did not accept the connection in time."),
    "connect_failed": _("A connection to Bunce could not be established."),
    "permit_expired": _("Connecting took too long, so the request was not sent."),
    # The request was sent, but no complete response arrived.
    "read_timeout": _("Bunce did not respond in time."),
    "deadline": _("Bunce's response took too long to arrive completely."),
    "reset": _("The connection broke before Bunce had responded."),
    "closed": _("The connection was closed before Bunce had responded."),
    "cut": _("Bunce's response was cut off."),
    "tls_broken": _("The secure connection broke before Bunce had responded."),
    # A response arrived whose meaning is not known.
    "not_json": _("Bunce's response is not valid JSON."),
    "wrong_shape": _("Bunce's response does not have the documented structure."),
    "no_id": _("Bunce's response contains no id."),
    "says_failed": _("Bunce responded with an HTTP success whose body reports a failure."),
    "too_large": _("Bunce's response was too large to be read."),
    "redirect": _("Bunce redirected the request to another address, which is not followed."),
    "unexpected_status": _("Bunce responded with an HTTP status that is not documented."),
    "paging": _("Bunce's list of segments could not be read to its end."),
    "no_content": _("Bunce's response has no content."),
    "server_error": _("Bunce had an internal error."),
    "unavailable": _("Bunce is unavailable and asked for a pause."),
    # Bunce did not act.
    "rate_limited": _("Bunce asked for a pause: it received too many requests from this address."),
    "key_refused": _("Bunce did not accept the API key."),
    "forbidden": _(
        "Bunce does not allow this request: a firewall blocks it, a limit of the plan is reached,"
        " or the API key lacks a permission."
    ),
    "no_such_address": _(
        "Bunce responded that this address does not exist. BUNCE_SYNC['BASE_URL'] or"
        " BUNCE_SYNC['ENV'] is probably wrong."
    ),
    "rejected": _("Bunce does not accept this request."),
    "conflict": _("Bunce found the content invalid or in conflict with existing data."),
    "not_found": _(
        "Bunce has no segment with this id: it was removed there, or the API key belongs to"
        " another account."
    ),
    # Found on this side.
    "worker_lost": _("The worker stopped before it recorded Bunce's response."),
    "linked_elsewhere": _(
        "Bunce's response contains the id of a segment that is already linked to another row with"
        " the same content."
    ),
    "duplicate": _(
        "Bunce has a second segment for it, %(detail)s: two requests created one, because the"
        " response to the first was late or lost."
    ),
    "drift": _("It was changed in Bunce since the content here was sent or imported."),
    "stored_differently": _(
        "Bunce confirmed it, but shows different content than was sent: Bunce adapted the content"
        " or did not apply it."
    ),
    "all_customers": _(
        "Bunce adds all customers only when it creates a segment, so sending it again does not"
        " remove the difference."
    ),
    "not_reported": _("The code of this site that made the request did not report its result."),
    "internal": _("An unexpected error occurred in this site. See the workers' log for details."),
    "row_deleted": _("The segment was deleted here while it was being sent."),
    "": _("No cause was recorded."),
}
CAUSE_UNKNOWN_CODE = _("The last request failed (%(code)s).")

CAUSE_NEW = _("It was added here and has not been sent yet.")
CAUSE_EDITED = _("It was changed here, and the change has not been sent yet.")
CAUSE_SEND_AGAIN = _("It will be sent again.")
CAUSE_EDITED_SINCE = _("Bunce refused the previous content. It has been changed here since.")
CAUSE_SENDING = _("A worker sent it at %(time)s and is waiting for Bunce's response.")
CAUSE_SYNCED = _("Bunce confirmed it at %(time)s.")
CAUSE_LINKED = _("It was linked to a segment in Bunce, which has not been read yet.")
CAUSE_IMPORTED = _("It was imported from Bunce at %(time)s.")
CAUSE_ABSENT = _(
    "%(cause)s Bunce's whole list was searched at %(time)s and does not contain it, so it is safe"
    " to send it again."
)
CAUSE_DOUBTFUL_REFUSAL = _("Bunce refused it, perhaps because an earlier attempt had created it.")
CAUSE_REFRESH_FAILED = _("Bunce confirmed it earlier, but the last refresh failed. %(cause)s")

# ── Segments: what to do ──────────────────────────────────────────────────────────────────────

ACTION_SOON = _("A worker sends it within seconds. There is nothing to do.")
ACTION_RETRY = _("Next automatic retry at %(time)s.")
ACTION_PUSH_NOW = Step("push", _("“Push now” retries at once."), NO_ACTION)
ACTION_SENDING = _(
    "Bunce's response appears here as soon as it arrives. If the worker stops before that, another"
    " one takes over after %(time)s. There is nothing to do."
)
ACTION_SEARCH_AT = _(
    "From %(time)s on, when Bunce has certainly finished, its list is searched for this segment."
    " It is sent again only if it is not there, so it cannot be created twice. There is nothing to"
    " do."
)
ACTION_SEARCHING = _(
    "Bunce's list is being searched for it. It is sent again only if it is not there, so it cannot"
    " be created twice. There is nothing to do."
)
ACTION_REJECTED: Final[Steps] = (
    Step(
        "change",
        _("Correct it below and save: it is then sent again."),
        _("Ask a colleague who can change segments to correct it: it is then sent again."),
    ),
    Step(
        "push",
        _("If the cause is resolved, “Retry” sends it unchanged."),
        _("If the cause is resolved, a colleague who can push segments can send it unchanged."),
    ),
)
ACTION_NOT_FOUND: Final[Steps] = (
    _("First check in Bunce's dashboard that it is gone."),
    Step(
        "push",
        _("If it is gone and still needed, “Create again” creates it in Bunce with a new id."),
        _("If it is gone and still needed, a colleague who can push segments can create it again."),
    ),
    Step(
        "push",
        _(
            "If the API key was changed by mistake, restore the previous one and choose “Refresh"
            " from Bunce”."
        ),
        _(
            "If the API key was changed by mistake, restore the previous one; a colleague who can"
            " push segments can then refresh it from Bunce."
        ),
    ),
)
ACTION_FORBIDDEN: Final[Steps] = (
    Step(
        "change",
        _("If its content is the cause, correct it below and save: it is then sent again."),
        _("If its content is the cause, ask a colleague who can change segments to correct it."),
    ),
    Step(
        "push",
        _("If the plan or the key's permissions have changed, “Retry” sends it unchanged."),
        _(
            "If the plan or the key's permissions have changed, a colleague who can push segments"
            " can send it unchanged."
        ),
    ),
)
ACTION_NO_SUCH_ADDRESS: Final[Steps] = (
    _("Correct the setting and restart the web server and the workers."),
    Step(
        "push",
        _("Then “Retry” sends it unchanged."),
        _("Then a colleague who can push segments can send it unchanged."),
    ),
)
ACTION_BY_CODE: Final[Mapping[str, Steps]] = {
    "not_found": ACTION_NOT_FOUND,
    "forbidden": ACTION_FORBIDDEN,
    "no_such_address": ACTION_NO_SUCH_ADDRESS,
}
ACTION_REFRESH = Step(
    "push",
    _("“Refresh from Bunce” reads it again."),
    _("A colleague who can push segments can refresh it from Bunce."),
)
ACTION_PUSH_OURS = Step(
    "push",
    _("“Push ours” replaces Bunce's content with the content here."),
    _("A colleague who can push segments can replace Bunce's content with the content here."),
)
ACTION_TAKE_THEIRS = Step(
    "settle",
    _("“Take theirs” replaces the content here with Bunce's."),
    _("A colleague who can change and push segments can take Bunce's content over."),
)
ACTION_SYNCED: Final[Mapping[str, Steps]] = {
    "": (NO_ACTION,),
    "stored_differently": (
        _("If the difference does not matter, there is nothing to do."),
        ACTION_PUSH_OURS,
        ACTION_TAKE_THEIRS,
    ),
    "all_customers": (
        _("Change it in Bunce's dashboard."),
        Step(
            "push",
            _("Then choose “Refresh from Bunce”."),
            _("Then a colleague who can push segments can refresh it from Bunce."),
        ),
    ),
    "drift": (ACTION_PUSH_OURS, ACTION_TAKE_THEIRS),
    "duplicate": (
        _("Remove the other one in Bunce's dashboard; this one stays linked."),
        ACTION_REFRESH,
    ),
}
ACTION_REFRESH_REQUESTED = _("A refresh from Bunce is requested; its result appears here.")

# ── What keeps all requests waiting ───────────────────────────────────────────────────────────
# A waiting segment shows the summary and the action, without the cause.

NO_KEY = MessageTemplate(
    summary=_("Nothing is sent: there is no API key."),
    cause=_("BUNCE_SYNC['API_KEY'] is empty."),
    action=_(
        "Set the secret key from Bunce's dashboard as BUNCE_SYNC['API_KEY'], and restart the web"
        " server and the workers."
    ),
)
BAD_SETTING = MessageTemplate(
    summary=_("Nothing is sent: a setting is invalid."),
    cause="%(problem)s",
    action=_(
        "Correct the setting and restart the web server and the workers. “manage.py check” shows"
        " details."
    ),
)
NEVER_SWEPT = MessageTemplate(
    summary=_("No worker has run yet."),
    cause=_(
        "A Celery worker with beat sends the segments, or the command bunce_sweep. Neither has"
        " run so far."
    ),
    action=_("Start one: %(command)s"),
)
SWEEP_LATE = MessageTemplate(
    summary=_("No sweep has run since %(time)s."),
    cause=_(
        "One should run every %(seconds)s s: no worker is running, beat is not running or waits"
        " because its clock was set back, or other tasks keep all workers busy. Restart a beat that"
        " waits. For busy workers, give the app a queue (BUNCE_SYNC['QUEUE']) and a worker of its"
        " own."
    ),
    action=_("Start a worker with beat: %(command)s"),
)
COMMAND_LATE = MessageTemplate(
    summary=_("Nothing is sent: bunce_sweep is not running."),
    cause=_("It last ran at %(time)s. No Celery worker has run a sweep since."),
    action=_("Start it, or check the cron job or service that runs it: %(command)s"),
)
RATE_LIMITER_PAUSED: Final = {
    Reason.RATE_LIMITED: MessageTemplate(
        summary=_("Paused until %(until)s at Bunce's request."),
        cause=_("Bunce received more requests from this address than it allows."),
        action=_(
            "Requests resume automatically. If this happens often, check whether another program"
            " uses the same IP address, or lower BUNCE_SYNC['RATE_LIMIT']."
        ),
    ),
    Reason.UNAVAILABLE: MessageTemplate(
        summary=_("Bunce is unavailable and asked for a pause until %(until)s."),
        cause=_("Bunce has reported since %(since)s that it cannot serve requests for a while."),
        action=_("Requests resume automatically. There is nothing to do."),
    ),
    Reason.KEY_REFUSED: MessageTemplate(
        summary=_("Bunce refused the API key."),
        cause=_("Bunce has not accepted this site's API key since %(since)s."),
        action=_(
            "Set a valid key and restart the web server and the workers. One request a minute tries"
            " the key, the next at %(until)s."
        ),
    ),
    Reason.UNREACHABLE: MessageTemplate(
        summary=_("Bunce has not responded since %(since)s."),
        cause=_("Several requests in a row failed."),
        action=_(
            "Next automatic retry at %(until)s. All requests resume when Bunce responds. There is"
            " nothing to do."
        ),
    ),
    Reason.CLOCK: MessageTemplate(
        summary=_("Paused until %(until)s: the database's clock jumped."),
        cause=_("The rate limiter counts requests by that clock, so it waits for a full window."),
        action=_(
            "Requests resume automatically. If this happens often, check the clock of the database"
            " server."
        ),
    ),
}
#: Bunce asked for a longer pause than the app waits without a probe.
LONG_PAUSE = MessageTemplate(
    summary=_("Paused until %(asked)s at Bunce's request."),
    cause=_("Bunce named this time when it last refused a request."),
    action=_(
        "One request at %(until)s checks whether the pause can end earlier. Requests resume"
        " automatically when Bunce accepts it. There is nothing to do."
    ),
)
ACTION_PROBING = _(
    "One request is sent first; the others follow when Bunce responds. There is nothing to do."
)
_PAUSE_OVER = MessageTemplate(
    summary=_("The pause that Bunce asked for is over."),
    cause=_("Bunce has not accepted a request since."),
    action=ACTION_PROBING,
)
RATE_LIMITER_PROBING: Final = {
    Reason.RATE_LIMITED: _PAUSE_OVER,
    Reason.UNAVAILABLE: _PAUSE_OVER,
    Reason.KEY_REFUSED: MessageTemplate(
        summary=_("Bunce refused the API key. The next request tries it again."),
        cause=_("Bunce has not accepted this site's API key since %(since)s."),
        action=_(
            "If you have not done so, set a valid key and restart the web server and the workers."
        ),
    ),
    Reason.UNREACHABLE: MessageTemplate(
        summary=_("Bunce has not responded since %(since)s. The next request tries again."),
        cause=_("Several requests in a row failed."),
        action=ACTION_PROBING,
    ),
    Reason.CLOCK: MessageTemplate(
        summary=_("The pause after a jump of the database's clock is over."),
        cause=_("No request has been made since."),
        action=ACTION_PROBING,
    ),
}

# ── What a person or a block of code keeps waiting ────────────────────────────────────────────

PAUSED: Final = MessageTemplate(
    summary=_("Paused by %(by)s since %(since)s: nothing is created or changed in Bunce."),
    cause=_("Reason: “%(reason)s”."),
    action=_("Segments wait until pushes are resumed. Reads continue."),
)
NO_REASON = _("none given")
BLOCK_HOLDS: Final = MessageTemplate(
    summary=ngettext_lazy(
        "A no_push() block has held %(count)s segment since %(since)s.",
        "A no_push() block has held %(count)s segments since %(since)s.",
        "number",
    ),
    cause=_("It runs as %(process)s. Reason: “%(reason)s”."),
    action=_("They are sent when it ends. If that process is gone: %(command)s"),
)
SEGMENT_HELD: Final = MessageTemplate(
    summary=_("Held since it was saved in a no_push() block."),
    cause=_("The block began at %(since)s as %(process)s. Reason: “%(reason)s”."),
    action=_("It is sent when the block ends. If that process is gone: %(command)s"),
)
CREATES_HELD: Final = MessageTemplate(
    summary=_("No segment is created until the import ends, which began at %(since)s."),
    cause=_("It links segments that wait to be created to segments that Bunce has already."),
    action=_("There is nothing to do."),
)
ELSEWHERE: Final = MessageTemplate(
    summary=ngettext_lazy(
        "%(n)s segment belongs to %(elsewhere)s; this site uses %(here)s.",
        "%(n)s segments belong to %(elsewhere)s; this site uses %(here)s.",
        "number",
    ),
    cause=_("The settings or the database have been changed since."),
    action=_(
        "No request is made for such segments. If the settings are wrong, correct BUNCE_SYNC and"
        " restart the web server and the workers. To move segments here: %(command)s"
    ),
)
SEGMENT_ELSEWHERE: Final = MessageTemplate(
    summary=_("Belongs to %(elsewhere)s."),
    cause=_("It was sent or found there, and this site uses %(here)s now."),
    action=_("No request is made for it. “manage.py bunce_rehome” moves segments here."),
)
UNCHECKED_KEY: Final = MessageTemplate(
    summary=_("Nothing is sent: the new API key could not be checked."),
    cause=_(
        "The key has not been used before. Since %(since)s Bunce has not shown its list of segments"
        " for it, so it is not known whether it belongs to this site's account."
    ),
    action=_(
        "The check is repeated automatically. If the key is right and Bunce's list cannot be read:"
        " “manage.py bunce_rehome --accept-key”."
    ),
)
STRANGE_KEY: Final = MessageTemplate(
    summary=_("Nothing is sent: this key seems to belong to another account."),
    cause=_(
        "The key has not been used before, and since %(since)s Bunce has shown none of this site's"
        " segments for it."
    ),
    action=_(
        "Set the key of this site's account as BUNCE_SYNC['API_KEY'], and restart the web server"
        " and the workers. If the segments are to move to the key's account:"
        " “manage.py bunce_rehome --this-account”."
    ),
)

# ── What keeps one operation waiting ──────────────────────────────────────────────────────────

OPERATION_PAUSED: Final = {
    Operation.CREATE: _("Creating segments in Bunce is paused."),
    Operation.UPDATE: _("Updating segments in Bunce is paused."),
    Operation.READ: _("Refreshing segments from Bunce is paused."),
    Operation.LIST: _(
        "Bunce's list of segments cannot be read, so segments being checked with Bunce wait."
    ),
    Operation.ADD: _("Adding customers to segments in Bunce is paused."),
    Operation.REMOVE: _("Removing customers from segments in Bunce is paused."),
}
#: By the code of the response.
OPERATION_CAUSE: Final[Mapping[str, Text]] = {
    "forbidden": _(
        "Bunce has not allowed these requests for any segment since %(since)s (HTTP %(status)s)."
    ),
    "not_found": _("Bunce has found none of the requested segments since %(since)s."),
    "no_such_address": _(
        "Bunce has responded since %(since)s that this address does not exist (HTTP %(status)s)."
    ),
    "says_failed": _(
        "Bunce has responded to these requests since %(since)s with an HTTP success whose body"
        " reports a failure."
    ),
    "paging": _("The end of the list could not be determined since %(since)s."),
}
OPERATION_CAUSE_REFUSED = _("Bunce has refused these requests since %(since)s (HTTP %(status)s).")
OPERATION_CAUSE_UNREADABLE = _("Bunce's responses have been unreadable since %(since)s. %(cause)s")
OPERATION_ACTION: Final[Mapping[str, Text]] = {
    "forbidden": _(
        "Check in Bunce's dashboard whether a limit of the plan is reached and what the API key is"
        " allowed to do."
    ),
    "not_found": _(
        "Check in Bunce's dashboard whether these segments were deleted. If they still exist, check"
        " BUNCE_SYNC['BASE_URL'] and whether the API key belongs to their account."
    ),
    "no_such_address": _(
        "Correct BUNCE_SYNC['BASE_URL'] or BUNCE_SYNC['ENV'], and restart the web server and the"
        " workers."
    ),
}
OPERATION_ACTION_ELSE = _(
    "If this persists, check BUNCE_SYNC['BASE_URL'], or contact Bunce's support with this message."
)
OPERATION_NEXT = _("Next automatic retry at %(until)s.")
OPERATION_PROBING = _("One request is retried next; the others follow when it succeeds.")

# ── Imports, links and pauses by people ───────────────────────────────────────────────────────

IMPORT_FROM_BUNCE = _("Import from Bunce")
IMPORT_INTRO = _(
    "All segments of %(environment)s are read. Those that are not here yet are added. Those that"
    " are here show what Bunce has now; what was entered here stays as it is."
)
IMPORT_IN_BACKGROUND = _(
    "A worker does it in the background, and the list shows the progress. Nothing is changed in"
    " Bunce."
)
IMPORT_OPEN = _(
    "An import is under way since %(since)s. If you choose an option that it does not have yet, it"
    " begins with the first page again."
)
IMPORT_ADOPT = _("Link waiting segments to segments of the same content")
IMPORT_ADOPT_HELP = _(
    "A segment that waits to be created is linked to the one in Bunce with the same name and"
    " description, so that no second one is created. No segment is created until the import ends."
)
IMPORT_DELETED = _("Bring back deleted segments")
IMPORT_DELETED_HELP = _(
    "Also add segments that were deleted here and that Bunce still has. Otherwise they are left"
    " out."
)
IMPORT_START = _("Start import")
IMPORT_REQUESTED = _("The import has been requested. The panel shows its progress.")
IMPORT_CANCEL = _("Cancel import")
IMPORT_CANCELLED = _("The import was cancelled. What it had done stays.")
NO_IMPORT = _("No import is under way.")
BY_SCHEDULE = _("the schedule")
IMPORT_RUNNING = ngettext_lazy(
    "Import from Bunce, requested by %(by)s at %(time)s: %(pages)s page read.",
    "Import from Bunce, requested by %(by)s at %(time)s: %(pages)s pages read.",
    "number",
)
IMPORT_DONE = _("Last import from Bunce, requested by %(by)s: ended at %(time)s.")
IMPORT_ENDED_EARLY = _("Last import from Bunce, requested by %(by)s: cancelled at %(time)s.")
#: By the names of ``importer.COUNTS``, each with a number.
IMPORT_COUNTS: Final[Mapping[str, Text]] = {
    "imported": _("%(n)s added"),
    "changed": _("%(n)s refreshed"),
    "unchanged": _("%(n)s unchanged"),
    "adopted": _("%(n)s linked"),
    "found": _("%(n)s found that had been in doubt"),
    "duplicates": _("%(n)s second segments of others"),
    "reserved": _("%(n)s left to a create that is being checked"),
    "deleted": _("%(n)s left out because they were deleted here"),
    "elsewhere": _("%(n)s left out because they belong to another environment"),
    "refused": _("%(n)s could not be stored, see the workers' log"),
}
CHANGED_IN_BUNCE = ngettext_lazy(
    "%(n)s segment was changed in Bunce.", "%(n)s segments were changed in Bunce.", "number"
)

LINK_MANY = _("Link selected segments to existing ones…")
LINK_TITLE = _("Link to existing segments")
LINK_INTRO = _(
    "These segments wait to be created, and Bunce has segments with the same name and description."
    " Linked to them, they are not created a second time. The rows that the import added for them"
    " are deleted here; nothing is changed in Bunce."
)
LINK_UNMATCHED = ngettext_lazy(
    "%(n)s selected segment has no unedited imported segment with the same content.",
    "%(n)s selected segments have no unedited imported segment with the same content.",
    "number",
)
LINK_IMPORT_FIRST = _("If Bunce has such segments, import them first.")
LINK_MORE = _("These are the first %(n)s. Repeat the action for the others.")
LINK_NONE = _("There is nothing to link.")
LINK_BUTTON = _("Link")
LINK_CREATED = _("created in Bunce on %(time)s")
LINK_IMPORTED = _("imported on %(time)s")
LINKED = ngettext_lazy(
    "%(n)d segment was linked to the existing one.",
    "%(n)d segments were linked to the existing ones.",
    "n",
)
NOT_LINKED = ngettext_lazy(
    "%(n)d segment was not linked: it was changed, sent or is referred to since.",
    "%(n)d segments were not linked: they were changed, sent or are referred to since.",
    "n",
)
LINKED_TO = _("Linked to %(id)s")
GAVE_WAY_TO = _("Its segment in Bunce was linked to segment %(id)s")

PAUSE = _("Pause pushes")
PAUSE_INTRO = _(
    "Nothing is created or changed in Bunce until pushes are resumed. Segments can be added and"
    " edited here; they wait. Requests that are under way are completed, and reads continue."
)
PAUSE_REASON = _("Reason")
PAUSE_REASON_HELP = _("It is shown above the list.")
PUSHES_PAUSED = _("Pushes are paused.")
RESUME = _("Resume pushes")
PUSHES_RESUMED = _("Pushes have resumed.")
NOT_PAUSED = _("Pushes were not paused.")
#: For the admin's log, which has no object for them.
PUSHES_TO_BUNCE = _("Pushes to Bunce")
PAUSED_FOR = _("Paused: %(reason)s")
RESUMED_LOG = _("Resumed")
RELEASED_LOG = _("Released the no_push() block of %(process)s.")
MOVED_LOG = _("Moved segments from %(elsewhere)s to %(here)s: %(count)s.")
KEY_ACCEPTED_LOG = _("Accepted the API key as one of this site's account.")
CANCEL = _("Cancel")

# ── Calls ─────────────────────────────────────────────────────────────────────────────────────

OUTCOME: Final = {
    Outcome.UNDER_WAY: _("A worker is waiting for Bunce's response."),
    Outcome.CONFIRMED: _("Bunce carried out the request."),
    Outcome.NOT_SENT: _("Nothing was sent, so Bunce cannot have acted."),
    Outcome.RATE_LIMITED: _("Bunce did not act and asked for a pause."),
    Outcome.KEY_REFUSED: _("Bunce did not act and refused the API key."),
    Outcome.REJECTED: _("Bunce did not act and refused the request."),
    Outcome.UNKNOWN: _("It was sent, but no usable response arrived: Bunce may have acted."),
    Outcome.ABANDONED: _(
        "The worker stopped before it recorded the response: Bunce may have acted."
    ),
    Outcome.DUPLICATE: _("Bunce created a second segment: the response arrived too late."),
}
DECISION: Final = {
    Decision.ADOPTED: _("Found in Bunce's list at %(time)s and linked: the request had arrived."),
    Decision.ABSENT: _("Not in Bunce's list at %(time)s, so it was safe to send it again."),
    Decision.RELEASED: _("The segment that it created was given up here on purpose at %(time)s."),
}
NO_CALLS = ngettext_lazy("No calls in the last %(n)d day.", "No calls in the last %(n)d days.", "n")
SENT_TO = _("Sent to %(environment)s.")
CURL_CREATES = _("Warning: this command creates another segment in Bunce.")

# ── Figures and the page itself ───────────────────────────────────────────────────────────────

USAGE_MINUTE = _("%(used)s of %(limit)s requests used this minute")
USAGE = _("%(used)s of %(limit)s requests used in %(seconds)s s")
USAGE_UNLIMITED = _("%(used)s requests in %(seconds)s s, no limit")
CHART: Final = {"accepted": _("accepted"), "rejected": _("rejected"), "failed": _("failed")}
AGO_SECONDS = _("%(n)s s ago")
AGO_MINUTES = _("%(n)s min ago")
COPY = _("Copy")
COPIED = _("Copied")
COPY_COMMAND = _("Copy the command")
#: What workers could do now; the counts come with their labels.
DUE = _("Due now: %(counts)s")
ZONE = _("Times are in %(zone)s.")
COPY_ID = _("Copy the Bunce id %(id)s")
NOT_UPDATED = _("This page is no longer updated. Reload it.")
SITE_UNREACHABLE = _(
    "The site is not responding. This page shows the status at %(time)s; it retries automatically."
)
RESUMED = _("Requests have resumed.")
UNSAVED = _("There are unsaved changes. Save them first; saving also sends the segment.")

# Two people, one segment. The first two are for the page that is saved, the others for an open one.
CHANGED_MEANWHILE = _(
    "Nothing was saved yet: the segment was changed while this page was open. Check the new values,"
    " and save again to keep your changes."
)
CHANGED_TO = _("%(label)s: “%(before)s” is now “%(after)s”.")
NOT_SAVED = _("Nothing was saved: “%(label)s” cannot be changed any more.")
SAVING_REPLACES = _("Saving replaces it with yours.")
EMPTY_VALUE = _("(empty)")
CHANGED_NOW = _("Changed while this page was open, and updated here:")
CHANGED_BESIDE = _("Changed while this page was open; saving shows the new value first:")
CHANGED_RELOAD = _("This segment was changed while this page was open. Reload the page to see it.")

# ── The actions of the admin ──────────────────────────────────────────────────────────────────

PUSH_NOW, RETRY, REFRESH = _("Push now"), _("Retry"), _("Refresh from Bunce")
PUSH_OURS, TAKE_THEIRS, CREATE_AGAIN = _("Push ours"), _("Take theirs"), _("Create again")
PUSH_OURS_MANY = _("Push ours: replace Bunce's content of selected segments")
TAKE_THEIRS_MANY = _("Take theirs: replace the content here of selected segments")
CREATE_AGAIN_MANY = _("Create selected segments again that are gone in Bunce")
PUSH_MANY = _("Push selected segments now")
RETRY_MANY = _("Retry selected segments")
REFRESH_MANY = _("Refresh selected segments from Bunce")
PUSHED = ngettext_lazy(
    "%(n)d segment will be sent; the result appears here.",
    "%(n)d segments will be sent; the results appear here.",
    "n",
)
RETRIED = ngettext_lazy(
    "%(n)d segment will be sent again; the result appears here.",
    "%(n)d segments will be sent again; the results appear here.",
    "n",
)
REFRESHED = ngettext_lazy(
    "%(n)d segment will be refreshed from Bunce; the result appears here.",
    "%(n)d segments will be refreshed from Bunce; the results appear here.",
    "n",
)
TAKEN = ngettext_lazy(
    "%(n)d segment has Bunce's content now.",
    "%(n)d segments have Bunce's content now.",
    "n",
)
CREATED_AGAIN = ngettext_lazy(
    "%(n)d segment will be created in Bunce again; the result appears here.",
    "%(n)d segments will be created in Bunce again; the results appear here.",
    "n",
)
NOT_PUSHED = ngettext_lazy(
    "%(n)d segment was skipped: only segments that wait can be pushed.",
    "%(n)d segments were skipped: only segments that wait can be pushed.",
    "n",
)
NOT_DIFFERENT = ngettext_lazy(
    "%(n)d segment was skipped: it does not differ in Bunce.",
    "%(n)d segments were skipped: they do not differ in Bunce.",
    "n",
)
NOT_GONE = ngettext_lazy(
    "%(n)d segment was skipped: only segments that are gone in Bunce can be created again.",
    "%(n)d segments were skipped: only segments that are gone in Bunce can be created again.",
    "n",
)
NOT_RETRIED = ngettext_lazy(
    "%(n)d segment was skipped: only segments that need attention can be retried.",
    "%(n)d segments were skipped: only segments that need attention can be retried.",
    "n",
)
NOT_REFRESHED = ngettext_lazy(
    "%(n)d segment was skipped: Bunce does not have it yet.",
    "%(n)d segments were skipped: Bunce does not have them yet.",
    "n",
)
NOT_HERE = ngettext_lazy(
    "%(n)d segment was skipped: it belongs to another environment.",
    "%(n)d segments were skipped: they belong to another environment.",
    "n",
)
STAY_HELD = ngettext_lazy(
    "%(n)d segment is held by a no_push() block, and is sent when that ends.",
    "%(n)d segments are held by a no_push() block, and are sent when that ends.",
    "n",
)
OTHER_DIFFERENCE = _(
    "Nothing was done: the content here or in Bunce has changed since the page was shown. Check the"
    " difference, and choose again."
)
LOOKED_FOR = ngettext_lazy(
    "%(n)d segment will be searched for in Bunce's list when Bunce has certainly finished.",
    "%(n)d segments will be searched for in Bunce's list when Bunce has certainly finished.",
    "n",
)
TOO_MANY = _("These were the first %(n)s. Repeat the action for the others.")
ALL_REQUESTED = _("This was requested for all of them already; the results appear here.")

# ── Deleting ──────────────────────────────────────────────────────────────────────────────────

BUNCE_KEEPS = _(
    "Segments are deleted here only. Bunce keeps those it has, because its API cannot delete a"
    " segment: delete them in Bunce's dashboard as well."
)
BUNCE_HAS_NONE = _("Bunce never confirmed a create, so nothing should remain there.")
NEVER_SENT = _("Nothing was ever sent to Bunce, so nothing remains there.")
NOTHING_DELETED = _("Nothing was deleted.")
BUSY: Final = {
    Status.SENDING: _("“%(name)s” is being sent right now: delete it when Bunce has responded."),
    Status.IN_DOUBT: _(
        "It is not known whether “%(name)s” is in Bunce: delete it when this is resolved. Otherwise"
        " an unlinked segment could remain there."
    ),
}
TOO_MANY_TO_DELETE = _(
    "Nothing was deleted: at most %(n)s segments can be deleted at a time. Narrow down the list."
)
FIXED_AFTER_SENDING = _(
    "Fixed since the segment was first sent, because Bunce's API cannot change it."
)

# ── What the codes imply ──────────────────────────────────────────────────────────────────────

#: Codes whose detail is Bunce's own message; the detail of the others is technical.
DETAIL_FROM_BUNCE: Final = frozenset(
    {
        *("rejected", "conflict", "forbidden", "not_found", "no_such_address"),
        *("key_refused", "rate_limited", "server_error", "unavailable", "says_failed"),
    }
)
#: Codes whose detail only repeats the cause in technical terms.
DETAIL_REPEATS: Final = frozenset({"read_timeout", "deadline", "reset", "no_content"})
#: Codes whose detail is an id, which the cause contains.
DETAIL_IS_ID: Final = frozenset({"duplicate", "linked_elsewhere"})
#: Codes of refused content.
REFUSALS: Final = frozenset({"rejected", "conflict"})
#: Codes of unreadable successes.
UNREADABLE: Final = frozenset({"not_json", "wrong_shape", "no_id", "too_large"})


# ── Customers of a segment ────────────────────────────────────────────────────────────────────

#: Keyed by whether customers are added.
CUSTOMERS_WHAT: Final = {True: _("adding customers"), False: _("removing customers")}
AUDIENCE_HELD: Final = MessageTemplate(
    _("%(removals)s of %(members)s customers would be removed: held since %(since)s."),
    _(
        "That is more than the audience allows within 24 hours, and may be a mistake in its"
        " queryset."
    ),
    _(
        "No customers are removed until a person decides; customers are still added. Look at the"
        " customers who would leave, then confirm the removals or drop them."
    ),
)
AUDIENCE_EMPTY: Final = MessageTemplate(
    _("All %(members)s customers would be removed: held since %(since)s."),
    _("The queryset of the audience is empty, which may be a mistake."),
    _(
        "No customers are removed until a person decides. If the audience is meant to be empty,"
        " confirm the removals; otherwise correct the queryset."
    ),
)
AUDIENCE_FAILED: Final = MessageTemplate(
    _("The audience could not be compared at %(time)s."),
    _("Its code raised an exception. No customers were removed."),
    _(
        "Run “manage.py bunce_audiences plan %(key)s” to see the exception. The comparison is"
        " repeated automatically."
    ),
)
AUDIENCE_UNMAINTAINED: Final = MessageTemplate(
    _("This segment is no longer maintained."),
    _("The site has no audience with the key “%(key)s” any more."),
    _("Its customers stay as they are. Restore the class to maintain them again."),
)
CUSTOMERS_ALL_REFUSED: Final = MessageTemplate(
    _("Bunce has refused %(what)s since %(since)s."),
    _(
        "Several batches in a row were refused with no success in between, so the cause is not a"
        " single customer."
    ),
    _("Read Bunce's message below. Next automatic attempt at %(until)s."),
)
CUSTOMERS_DELAYED: Final = MessageTemplate(
    _("Since %(since)s %(what)s has failed."),
    _("Requests about this segment's customers failed repeatedly."),
    _("Next automatic attempt at %(until)s."),
)
CUSTOMERS_REFUSED: Final = MessageTemplate(
    _("Customers that Bunce refused: %(number)s."),
    _("Bunce's message is shown with each of them. All other customers were sent."),
    _("Correct them in the site and add them again, or retry them."),
)
CUSTOMERS_WAIT_FOR_SEGMENT: Final = MessageTemplate(
    _("The customers wait for their segment."),
    _("The segment is not in Bunce yet."),
    NO_ACTION,
)
COUNT_LOWER: Final = MessageTemplate(
    _("Bunce counts %(count)s customers, %(difference)s fewer than sent."),
    _(
        "%(sent)s were sent and confirmed. Bunce may store two identifiers as one customer, still"
        " be counting, or have removed customers that were deleted there."
    ),
    _("Refresh the segment later. If the difference stays, send all customers again."),
)
COUNT_HIGHER: Final = MessageTemplate(
    _("Bunce counts %(count)s customers, %(difference)s more than sent."),
    _(
        "%(sent)s were sent and confirmed. Others were added in Bunce's dashboard or by another"
        " program; this app removes only customers that it added."
    ),
    NO_ACTION,
)

#: Entries of the admin's log.
REMOVALS_CONFIRMED_LOG = _("Confirmed the removal of %(number)s customers.")
REMOVALS_DROPPED_LOG = _("Dropped the removal of %(number)s customers.")
REFUSED_RETRIED_LOG = _("Retried %(number)s refused customers.")
CUSTOMERS_ADDED_LOG = _("Added or changed %(number)s customers.")
CUSTOMERS_REMOVED_LOG = _("Removed %(number)s customers.")
COMPARED_LOG = _("Requested a comparison of the audience.")
RESYNCED_LOG = _("Sent all %(number)s customers again.")

#: Notices about hosts whose clock is wrong.
_CLOCK_CAUSE = _(
    "This app goes by the database's clock, so no segment is lost or sent twice. But dates in the"
    " code of audiences, certificates, and Celery tasks that expire go by the clock of the host."
    " Last seen at %(time)s."
)
_CLOCK_ACTION = _("Let the host set its clock by NTP.")
CLOCK_AHEAD: Final = MessageTemplate(
    _("The clock of the host “%(host)s” is at least %(seconds)s s ahead of the database's."),
    _CLOCK_CAUSE,
    _CLOCK_ACTION,
)
CLOCK_BEHIND: Final = MessageTemplate(
    _("The clock of the host “%(host)s” is at least %(seconds)s s behind the database's."),
    _CLOCK_CAUSE,
    _CLOCK_ACTION,
)

#: Notices in the panel about audiences.
PANEL_AUDIENCE_HELD: Final = MessageTemplate(
    _("The audience “%(key)s” is held: %(removals)s of %(members)s customers would be removed."),
    _("That is more than it allows within 24 hours, or all of them."),
    _("Open its segment to confirm the removals or to drop them."),
)
OPEN_SEGMENT = _("Open the segment")
PANEL_AUDIENCE_FAILED: Final = MessageTemplate(
    _("The audience “%(key)s” could not be compared."),
    _("Its code raised an exception. No customers were removed."),
    _("Run “%(command)s” to see the exception."),
)

# The panel and the pages of one segment

CUSTOMERS_TITLE = _("Customers")
CUSTOMERS_NUMBERS: Final = {
    "members": _("In this segment"),
    "in_bunce": _("In Bunce"),
    "to_add": _("Waiting to be sent"),
    "to_remove": _("Waiting to be removed"),
    "refused": _("Refused by Bunce"),
}
CUSTOMERS_BY_BUNCE = _("Counted by Bunce")
CUSTOMERS_NONE = _("No customers were added here.")
CUSTOMERS_ALL = _("Bunce adds all customers to this segment, so none are added here.")
CUSTOMERS_OF_AUDIENCE = _("They come from the audience “%(key)s” of the site's code.")
CUSTOMERS_COMPARED = _("Compared %(time)s.")
CUSTOMERS_NEXT = _("Next comparison %(time)s.")
CUSTOMERS_ADD = _("Add customers")
CUSTOMERS_REMOVE = _("Remove customers")
CUSTOMERS_RETRY = _("Retry the refused")
CUSTOMERS_RESYNC = _("Send all again")
CUSTOMERS_COMPARE = _("Compare now")
CUSTOMERS_DECIDE = _("Decide about the removals")
CUSTOMERS_LIST = _("List of customers")
CUSTOMERS_LIST_REFUSED = _("Those that Bunce refused")
NAME_OF_AUDIENCE = _(
    "Name and description come from the class of the audience “%(key)s”: change them there."
)

CUSTOMERS_ADD_INTRO = _(
    "Bunce creates customers that it does not know, and updates the others with the columns given."
)
CUSTOMERS_REMOVE_INTRO = _(
    "They leave the segment. Bunce keeps the customers themselves. Those that are not in the"
    " segment are ignored."
)
CUSTOMERS_TEXT = _("Customers")
CUSTOMERS_TEXT_HELP = _(
    "One in each line: your id of the customer or an email address. Or lines of a CSV file, with"
    " the first line naming the columns: customer_id, email, first_name, last_name, phone_no."
)
CUSTOMERS_TEXT_SIZE = _("For more than %(size)s use a file.")
CUSTOMERS_FILE = _("CSV file")
CUSTOMERS_FILE_HELP = _("Instead of the text: UTF-8, at most %(n)s customers.")
CUSTOMERS_NEITHER = _("Enter customers or choose a file.")
CUSTOMERS_BOTH = _("Enter customers or choose a file, not both.")
CUSTOMERS_TOO_MANY = _("These are more than %(n)s customers. Send them in several parts.")
CUSTOMERS_NOT_TEXT = _("The file is no text in UTF-8. Save it as “CSV UTF-8”.")
CUSTOMERS_LINE = _("Line %(line)s: %(problem)s.")
CUSTOMERS_MORE_LINES = _("%(n)s more lines cannot be used. Nothing was stored.")
CUSTOMERS_TOO_LARGE = _("The file is larger than %(size)s. Send it in several parts.")
CUSTOMERS_NO_CSV = _("not valid CSV; check the quotation marks")
CUSTOMERS_UNKNOWN_COLUMN = _("unknown column; the columns are %(columns)s")
CUSTOMERS_REPEATED_COLUMN = _("the same column is named twice")
CUSTOMERS_ADDED = _("%(added)s customers added, %(changed)s changed, %(unchanged)s unchanged.")
CUSTOMERS_FORGOTTEN = _("%(n)s were left out, because they asked to be forgotten.")
CUSTOMERS_REMOVED = _("%(removed)s customers removed; %(unchanged)s were not in the segment.")
CUSTOMERS_RETRIED = _("%(n)s refused customers are sent again.")
CUSTOMERS_RESENT = _("%(n)s customers are sent again.")
CUSTOMERS_RESYNC_INTRO = _(
    "All %(n)s customers are sent to Bunce again. This brings back those who are missing there; it"
    " removes no customers."
)
CUSTOMERS_COMPARE_REQUESTED = _("The audience is compared as soon as a worker is free.")

DECIDE_TITLE = _("Removals to decide about")
DECIDE_INTRO = _(
    "%(removals)s of %(members)s customers are not in the queryset of the audience “%(key)s” any"
    " more. No customers are removed before you decide."
)
DECIDE_EXAMPLES = _("Some of those who would leave:")
DECIDE_CONFIRM_HELP = _(
    "If you confirm, the audience is compared once more. They are removed if they are no more than"
    " %(removals)s then. If you drop the removals, these customers stay for now; the next"
    " comparison finds them again if the queryset still lacks them."
)
DECIDE_CONFIRM = _("Remove %(removals)s customers")
DECIDE_DROP = _("Drop the removals")
DECIDE_CONFIRMED = _("Confirmed. A worker compares the audience again and removes them.")
DECIDE_DROPPED = _("Dropped. These customers stay.")
DECIDE_CHANGED = _("Nothing was changed: the removals are not the ones shown any more. Look again.")

MEMBER_TITLE = _("Customers of “%(segment)s”")
MEMBER_CHOOSE = _("Choose a segment; its page has the list of its customers.")
MEMBER_REMOVE = _("Remove from the segment")
MEMBER_RETRY = _("Send again")
MEMBER_NOT_BY_HAND = _("%(n)s were left alone: their segment's customers come from an audience.")
MEMBER_REMOVING = _("%(label)s (to be removed)")
