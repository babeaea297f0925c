"""The values of the columns that hold one of a few words."""

from __future__ import annotations

from typing import Final

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class Status(TextChoices):
    PENDING = "pending", _("Waiting")
    SENDING = "sending", _("Sending")
    SYNCED = "synced", _("Synced")
    IN_DOUBT = "in_doubt", _("Checking with Bunce")
    REJECTED = "rejected", _("Needs attention")


class Operation(TextChoices):
    CREATE = "create", _("Create")
    UPDATE = "update", _("Update")
    READ = "read", _("Read")
    LIST = "list", _("List")
    ADD = "add", _("Add customers")
    REMOVE = "remove", _("Remove customers")
    SITE = "site", _("Request of the site")


class Outcome(TextChoices):
    UNDER_WAY = "under_way", _("Under way")
    CONFIRMED = "confirmed", _("Confirmed")
    NOT_SENT = "not_sent", _("Not sent")
    RATE_LIMITED = "rate_limited", _("Pause requested")
    KEY_REFUSED = "key_refused", _("Key refused")
    REJECTED = "rejected", _("Rejected")
    UNKNOWN = "unknown", _("Outcome unknown")
    ABANDONED = "abandoned", _("Worker lost")
    DUPLICATE = "duplicate", _("Duplicate")


#: The outcomes of requests that may have reached Bunce although it confirmed nothing.
UNRESOLVED: Final = (Outcome.UNKNOWN, Outcome.ABANDONED)


class MemberStatus(TextChoices):
    """Where a customer of a segment stands."""

    PENDING = "pending", _("Waiting")
    SENDING = "sending", _("Sending")
    IN_BUNCE = "in_bunce", _("In Bunce")
    REFUSED = "refused", _("Refused")
    REMOVED = "removed", _("Removed")


class Decision(TextChoices):
    """What was found out, or decided, about a create after it ended."""

    ADOPTED = "adopted", _("Found in Bunce and linked")
    ABSENT = "absent", _("Not found in Bunce, safe to send again")
    RELEASED = "released", _("The segment was given up here on purpose")


class Reason(TextChoices):
    """Why the rate limiter is closed."""

    RATE_LIMITED = "rate_limited", _("Bunce asked for a pause")
    UNAVAILABLE = "unavailable", _("Bunce is unavailable and asked for a pause")
    KEY_REFUSED = "key_refused", _("Bunce refused the API key")
    UNREACHABLE = "unreachable", _("Bunce is not responding")
    CLOCK = "clock", _("The database's clock jumped")


class Sweeper(TextChoices):
    """What ran a sweep, which says when the next one is due."""

    WORKER = "worker"
    LOOP = "loop"
    CRON = "cron"
