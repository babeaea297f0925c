"""The rows: segments (which are the queue), the ledger of requests, and the shared state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db import models, router, transaction
from django.db.models import Expression, Q
from django.db.models.functions import Length, Trim
from django.db.models.lookups import GreaterThan
from django.utils.translation import gettext_lazy as _

from bunce_sync.functions import DatabaseNow
from bunce_sync.querysets import SegmentQuerySet


def content_digest(name: str, description: str | None) -> str:
    """A fingerprint of a segment's content, the same wherever Bunce would show the same.

    Spaces at the ends do not count, and an empty description is no description. Compared in place
    of the texts, since a database may find "VIP" and "vip" equal.
    """
    content = f"{name.strip()}\0{(description or '').strip()}"
    return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()


def validate_not_blank(value: str) -> None:
    """Refuse a name that holds nothing but spaces.

    Raises:
        ValidationError: it does.
    """
    if not value.strip():
        # Not "blank": Django would put its own sentence for that code in place of ours.
        raise ValidationError(_("Enter a name. Spaces alone are not one."), code="only_spaces")


class Segment(models.Model):
    """An audience as it is wanted here, what Bunce has of it, and how the two stand.

    People and other code write the wanted fields. All else is written by ``bunce_sync.sync`` with
    guarded updates, so ``save()`` leaves it alone: an instance that was read before a worker
    recorded the Bunce id must not take that id away again.
    """

    class Status(models.TextChoices):
        PENDING = "pending", _("Waiting")
        SENDING = "sending", _("Sending")
        SYNCED = "synced", _("Synced")
        IN_DOUBT = "in_doubt", _("Checking with Bunce")
        REJECTED = "rejected", _("Needs attention")

    #: The fields that say what is wanted; nothing else is ever sent.
    WANTED: ClassVar = ("name", "description", "add_all_customers")
    #: The states in which nothing happens until somebody edits the row.
    RESTING: ClassVar = (Status.SYNCED, Status.REJECTED)

    name = models.CharField(_("name"), max_length=255, validators=[validate_not_blank])
    description = models.TextField(_("description"), null=True, blank=True)  # noqa: DJ001 - Bunce's own shape
    add_all_customers = models.BooleanField(
        _("add all customers"),
        default=False,
        db_default=False,
        help_text=_("Bunce adds every customer when it creates the segment. Fixed from then on."),
    )

    bunce_id = models.CharField(  # noqa: DJ001 - unique, so "none yet" has to be NULL
        _("Bunce id"), max_length=255, unique=True, null=True, editable=False
    )
    bunce_name = models.TextField(
        _("name in Bunce"), default="", db_default="", editable=False, blank=True
    )
    bunce_description = models.TextField(
        _("description in Bunce"), default="", db_default="", editable=False, blank=True
    )
    bunce_type = models.CharField(
        _("type"), max_length=100, default="", db_default="", editable=False, blank=True
    )
    bunce_all_customers = models.BooleanField(_("all customers"), null=True, editable=False)
    bunce_conditions = models.JSONField(_("conditions"), null=True, editable=False)
    bunce_customers_count = models.BigIntegerField(_("customers"), null=True, editable=False)
    bunce_created_at = models.DateTimeField(_("created in Bunce"), null=True, editable=False)
    bunce_updated_at = models.DateTimeField(_("updated in Bunce"), null=True, editable=False)

    bunce_duplicate_id = models.CharField(  # noqa: DJ001 - hardly any row has one
        _("second segment in Bunce"),
        max_length=255,
        null=True,
        editable=False,
        help_text=_("Created by a request whose answer came when the row had its segment already."),
    )

    status = models.CharField(
        _("status"),
        max_length=16,
        choices=Status,
        default=Status.PENDING,
        db_default=Status.PENDING,
        editable=False,
    )
    due_at = models.DateTimeField(
        _("due at"),
        db_default=DatabaseNow(),
        editable=False,
        help_text=_("When a waiting row may be sent, or a row in doubt may be looked up."),
    )
    lease_token = models.UUIDField(_("lease token"), null=True, editable=False)
    lease_until = models.DateTimeField(_("lease until"), null=True, editable=False)
    attempts = models.PositiveIntegerField(_("attempts"), default=0, db_default=0, editable=False)
    sent_digest = models.CharField(
        _("content last sent"), max_length=64, default="", db_default="", editable=False, blank=True
    )
    sent_at = models.DateTimeField(_("last sent at"), null=True, editable=False)
    last_code = models.CharField(
        _("last problem"), max_length=32, default="", db_default="", editable=False, blank=True
    )
    last_error = models.TextField(
        _("last error"), default="", db_default="", editable=False, blank=True
    )
    synced_at = models.DateTimeField(_("synced at"), null=True, editable=False)
    check_asked_at = models.DateTimeField(
        _("check asked for at"), null=True, editable=False, db_index=True
    )

    # By the database's clock: whoever reads what changed since a time must not miss the rows that a
    # host whose clock is slow has saved.
    created_at = models.DateTimeField(_("created at"), db_default=DatabaseNow(), editable=False)
    updated_at = models.DateTimeField(_("updated at"), db_default=DatabaseNow(), editable=False)

    objects = SegmentQuerySet.as_manager()

    class Meta:
        verbose_name = _("segment")
        verbose_name_plural = _("segments")
        ordering = ("-id",)
        permissions = [("push_segment", _("Can push segments to Bunce"))]
        indexes = [
            # Due rows, rows in doubt, leases that ran out, and the count of each state.
            models.Index(fields=["status", "due_at"], name="bunce_segment_status_due"),
            # The rows of one state in the admin's order; without it MariaDB sorts all of them.
            models.Index(fields=["status", "id"], name="bunce_segment_status_id"),
            # The orders in which lists are paged by key, and the dates they are filtered by.
            models.Index(fields=["created_at", "id"], name="bunce_segment_created"),
            models.Index(fields=["updated_at", "id"], name="bunce_segment_updated"),
            models.Index(fields=["name", "id"], name="bunce_segment_name"),
            # A type that few rows have, or none: else the whole table is read to find them.
            models.Index(fields=["bunce_type"], name="bunce_segment_type"),
            models.Index(
                fields=["bunce_duplicate_id"],
                name="bunce_segment_duplicate",
                condition=Q(bunce_duplicate_id__isnull=False),
            ),
        ]
        constraints = [
            models.CheckConstraint(
                name="bunce_segment_name_not_blank",
                condition=Q(GreaterThan(Length(Trim("name")), 0)),
                violation_error_message=_("Enter a name. Spaces alone are not one."),
            ),
            models.CheckConstraint(
                name="bunce_segment_synced_has_id",
                condition=~Q(status="synced") | Q(bunce_id__isnull=False),
                violation_error_message=_("A synced segment has a Bunce id."),
            ),
            models.CheckConstraint(
                name="bunce_segment_doubt_has_no_id",
                condition=~Q(status="in_doubt") | Q(bunce_id__isnull=True),
                violation_error_message=_("A segment with a Bunce id is not in doubt."),
            ),
            models.CheckConstraint(
                name="bunce_segment_sending_has_lease",
                condition=Q(status="sending", lease_token__isnull=False, lease_until__isnull=False)
                | (~Q(status="sending") & Q(lease_token__isnull=True, lease_until__isnull=True)),
                violation_error_message=_("A segment is being sent exactly while it has a lease."),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(
        self,
        *args: Any,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Save what is wanted; a row at rest whose content changed becomes pending again.

        Args:
            using: the database alias.
            update_fields: some of the wanted fields, ``updated_at``, or None for all of them.

        Raises:
            IntegrityError: a new instance has the primary key of a row that exists.
            ValueError: ``update_fields`` names a field that only the sync writes.
        """
        if self._state.adding and update_fields is None:
            if not args:
                # Django would turn a primary key that exists into an UPDATE of every field, and
                # the row's Bunce id would be gone.
                kwargs["force_insert"] = True
            super().save(*args, using=using, **kwargs)
            fields = [field.name for field in self._meta.concrete_fields]
            unknown = [name for name in fields if isinstance(self.__dict__.get(name), Expression)]
            if unknown:  # MySQL, unlike all the others, does not tell its defaults
                self.refresh_from_db(using=self._state.db, fields=unknown)
            return
        names = self._writable(update_fields)
        alias = using or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=alias):
            self.updated_at = DatabaseNow()
            super().save(*args, using=using, update_fields=names, **kwargs)
            if names & {"name", "description"}:
                rows = type(self)._default_manager.using(alias).filter(pk=self.pk)
                # With some fields only, this instance may differ from the row in the others.
                stored = self if update_fields is None else rows.get()
                rows.exclude(sent_digest=stored.digest).mark_edited()
            self.refresh_from_db(using=alias, fields=[*self.fresh_start(), "updated_at"])

    def _writable(self, update_fields: Iterable[str] | None) -> set[str]:
        writable = {*self.WANTED, "updated_at"}
        if update_fields is None:
            return writable
        names = {*update_fields, "updated_at"}
        dates = {f.name for f in self._meta.concrete_fields if isinstance(f, models.DateTimeField)}
        if names >= dates:
            names -= dates - writable  # update_or_create() names every date, wanted or not
        if names - writable:
            raise ValueError(
                f"Segment.save() does not write {', '.join(sorted(names - writable))}:"
                " the sync keeps these fields. Use Segment.objects.filter(...).update(...)."
            )
        return names

    @property
    def digest(self) -> str:
        """The fingerprint of what is wanted now."""
        return content_digest(self.name, self.description)

    @property
    def creates(self) -> bool:
        """Whether the next push is a create; else it is an update."""
        return self.bunce_id is None

    @property
    def trouble(self) -> str:
        """The code of what is to be told of the row: that Bunce has it twice before all else."""
        twice = self.status == Segment.Status.SYNCED and self.bunce_duplicate_id is not None
        return "duplicate" if twice else self.last_code

    @staticmethod
    def fresh_start() -> dict[str, Any]:
        """What a row gets when it is to be pushed anew after an edit or a "Retry"."""
        return {
            "status": Segment.Status.PENDING,
            "due_at": DatabaseNow(),
            "attempts": 0,
            "last_code": "",
            "last_error": "",
        }

    def clean(self) -> None:
        """Tidy the wanted fields, and refuse what Bunce's API cannot change.

        Raises:
            ValidationError: ``add_all_customers`` changed after the create was sent.
        """
        super().clean()
        self.name = (self.name or "").strip()
        self.description = (self.description or "").strip() or None
        if self.pk and not self._state.adding:
            before = (
                type(self)
                ._base_manager.using(self._state.db)
                .filter(pk=self.pk)
                .values_list("add_all_customers", "sent_at")
                .first()
            )
            if before and before[1] is not None and before[0] != self.add_all_customers:
                raise ValidationError(
                    {
                        "add_all_customers": _(
                            "This can no longer be changed: the segment was already sent to Bunce,"
                            " whose API has no call for it. Change it in Bunce's dashboard."
                        )
                    },
                    code="fixed",
                )


class ApiCall(models.Model):
    """The ledger: one row for each HTTP request, committed before its first byte leaves."""

    class Operation(models.TextChoices):
        CREATE = "create", _("Create")
        UPDATE = "update", _("Update")
        READ = "read", _("Read")
        LIST = "list", _("List")

    class Outcome(models.TextChoices):
        UNDER_WAY = "under_way", _("Under way")
        CONFIRMED = "confirmed", _("Confirmed")
        NOT_SENT = "not_sent", _("Not sent")
        RATE_LIMITED = "rate_limited", _("Asked to wait")
        KEY_REFUSED = "key_refused", _("Key refused")
        REJECTED = "rejected", _("Rejected")
        UNKNOWN = "unknown", _("Outcome unknown")
        ABANDONED = "abandoned", _("Worker lost")
        DUPLICATE = "duplicate", _("Duplicate")

    class Decision(models.TextChoices):
        """What reconciliation found out about a create whose outcome was unknown."""

        ADOPTED = "adopted", _("Found in Bunce and adopted")
        ABSENT = "absent", _("Not found in Bunce, safe to send again")

    #: No constraint and no cascade: the ledger keeps what happened to rows that are gone.
    segment = models.ForeignKey(
        Segment,
        verbose_name=_("segment"),
        related_name="calls",
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        null=True,
        blank=True,
    )
    operation = models.CharField(_("operation"), max_length=16, choices=Operation)
    path = models.CharField(_("path"), max_length=300)
    body = models.JSONField(_("body"), null=True, blank=True)
    started_at = models.DateTimeField(_("started at"), db_index=True)
    duration_ms = models.PositiveIntegerField(_("duration in ms"), null=True, blank=True)
    outcome = models.CharField(
        _("outcome"), max_length=16, choices=Outcome, default=Outcome.UNDER_WAY
    )
    http_status = models.PositiveSmallIntegerField(_("HTTP status"), null=True, blank=True)
    code = models.CharField(_("code"), max_length=32, default="", blank=True)
    message = models.TextField(_("message"), default="", blank=True)
    bunce_id = models.CharField(_("Bunce id"), max_length=255, default="", blank=True)
    decision = models.CharField(
        _("decision"), max_length=16, choices=Decision, default="", blank=True
    )
    decided_at = models.DateTimeField(_("decided at"), null=True, blank=True)

    class Meta:
        verbose_name = _("API call")
        verbose_name_plural = _("API calls")
        ordering = ("-id",)
        default_permissions = ("view",)
        indexes = [
            # Requests of workers that died: few, among millions that are as old.
            models.Index(fields=["outcome", "started_at"], name="bunce_apicall_outcome_started"),
        ]

    def __str__(self) -> str:
        return f"{self.get_operation_display()} {self.started_at:%Y-%m-%d %H:%M:%S}"


class SyncState(models.Model):
    """One row that all processes share: the gate, the last sweep, and the scan under way."""

    class Reason(models.TextChoices):
        """Why the gate is closed."""

        RATE_LIMITED = "rate_limited", _("Bunce asked to wait")
        KEY_REFUSED = "key_refused", _("Bunce refused the key")
        UNREACHABLE = "unreachable", _("Bunce is not answering")
        CLOCK = "clock", _("The database's clock jumped")

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    permits = models.BigIntegerField(default=0)
    blocked_until = models.DateTimeField(null=True)
    blocked_reason = models.CharField(max_length=16, choices=Reason, default="", blank=True)
    blocked_since = models.DateTimeField(null=True)
    blocked_detail = models.TextField(default="", blank=True)
    failures = models.PositiveIntegerField(default=0)
    probe_until = models.DateTimeField(null=True)
    resumed_at = models.DateTimeField(null=True)
    clock_epoch = models.PositiveIntegerField(default=0)
    swept_at = models.DateTimeField(null=True)
    scan = models.JSONField(null=True)
    scan_lease_until = models.DateTimeField(null=True)
    scan_token = models.UUIDField(null=True)

    class Meta:
        verbose_name = _("sync state")
        verbose_name_plural = _("sync state")
        default_permissions = ("view",)
        constraints = [models.CheckConstraint(name="bunce_syncstate_one_row", condition=Q(id=1))]

    def __str__(self) -> str:
        return "SyncState"


class IdempotencyKey(models.Model):
    """A create that came over the REST API, so that repeating it makes no twin.

    Written before the segment is, then given the segment's id in the segment's own transaction.
    Only digests are kept: they are compared exactly on every database, and keys may be secrets.
    """

    #: The same key later makes a new segment; clients that repeat do so within minutes.
    KEPT_FOR: ClassVar = timedelta(hours=24)

    digest = models.CharField(_("digest of user and key"), max_length=64, unique=True)
    body_digest = models.CharField(_("digest of the body"), max_length=64)
    token = models.UUIDField(_("token of the request at work"))
    started_at = models.DateTimeField(_("started at"), db_default=DatabaseNow(), db_index=True)
    segment_ids = models.JSONField(
        _("segments made"), null=True, help_text=_("None while the first request is at work.")
    )

    class Meta:
        verbose_name = _("idempotency key")
        verbose_name_plural = _("idempotency keys")
        default_permissions = ()

    def __str__(self) -> str:
        return self.digest[:12]
