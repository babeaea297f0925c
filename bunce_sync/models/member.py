"""The customers of segments. The table is also the queue of what Bunce has to be told of them."""

from __future__ import annotations

from typing import Any, TypeAlias

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.translation import gettext_lazy as _

from bunce_sync import choices
from bunce_sync.customer_entries import MAX_LENGTH
from bunce_sync.functions import DatabaseNow
from bunce_sync.models.deletion import delete_unseen
from bunce_sync.models.member_queryset import MemberQuerySet


class IdentifierField(models.CharField):  # type: ignore[type-arg]  # generic in the stubs alone
    """Text that every database compares and sorts by the numbers of its characters.

    So text that differs in case or accents is different, and what begins alike is one range of
    the index.
    """

    def db_parameters(self, connection: BaseDatabaseWrapper) -> dict[str, Any]:
        parameters: dict[str, Any] = {**super().db_parameters(connection)}
        if connection.vendor == "postgresql":
            parameters["collation"] = "C"
        return parameters

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        column = super().db_type(connection)
        # The binary collation of the column's own character set.
        return f"{column} BINARY" if connection.vendor == "mysql" else column


class Member(models.Model):
    """One customer of one segment: what the site wants, and what Bunce was last told.

    Write members with ``Segment.add_customers`` and ``Segment.remove_customers``. It is the only
    record of who is in a segment: Bunce has no call that lists them.
    """

    Status: TypeAlias = choices.MemberStatus

    segment = models.ForeignKey(
        "bunce_sync.Segment",
        verbose_name=_("segment"),
        related_name="members",
        on_delete=delete_unseen,
        # No constraint: it would make an INSERT lock the segment until its transaction ends.
        db_constraint=False,
        db_index=False,  # the unique constraint begins with it
    )
    #: The site's id of the customer, or an email address; see ``customer_entries``.
    identifier = IdentifierField(_("identifier"), max_length=MAX_LENGTH)
    is_email = models.BooleanField(_("is an email address"), default=False)
    wanted = models.BooleanField(_("wanted in the segment"), default=True, db_default=True)
    #: What Bunce was last told; None while that is not known.
    in_bunce = models.BooleanField(_("in Bunce"), null=True, default=False, db_default=False)
    status = models.CharField(
        _("status"),
        max_length=16,
        choices=choices.MemberStatus,
        default=choices.MemberStatus.PENDING,
        db_default=choices.MemberStatus.PENDING,
    )
    #: When a waiting member may be sent, and when the lease of one that is being sent ends.
    due_at = models.DateTimeField(_("due at"), db_default=DatabaseNow())
    attempts = models.PositiveIntegerField(_("attempts"), default=0, db_default=0)
    #: The most members of the next batch it is in, after Bunce refused a larger one; 0: no limit.
    split = models.PositiveIntegerField(default=0, db_default=0)
    lease_token = models.UUIDField(null=True)
    #: It was added, removed or changed here while it was being sent.
    changed = models.BooleanField(default=False, db_default=False)
    #: Until when a request of unknown outcome may still take effect.
    late_until = models.DateTimeField(null=True)
    #: What Bunce has to be told beside the identifier; not kept once Bunce has confirmed it.
    profile = models.JSONField(_("profile to send"), null=True)
    profile_digest = models.CharField(max_length=32, default="", blank=True)
    last_code = models.CharField(
        _("last problem"), max_length=32, default="", db_default="", blank=True
    )
    #: Bunce's words. They may name the customer, and are stored nowhere else.
    last_error = models.TextField(_("last error"), default="", db_default="", blank=True)

    objects = MemberQuerySet.as_manager()

    class Meta:
        verbose_name = _("customer")
        verbose_name_plural = _("customers")
        #: Not "segment": its rows would be joined, to sort by their own ordering.
        ordering = ("segment_id", "identifier")
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["segment", "identifier"], name="bunce_member_unique"),
        ]
        indexes = [
            # The next batch of a segment.
            models.Index(
                fields=["segment", "wanted", "status", "due_at"], name="bunce_member_batch"
            ),
            # Leases that ended, and whether anything is due at all.
            models.Index(fields=["status", "due_at"], name="bunce_member_due"),
        ]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} #{self.pk}"
