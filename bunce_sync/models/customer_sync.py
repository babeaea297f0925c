"""The sync of the customers of one segment."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from bunce_sync.choices import Operation
from bunce_sync.functions import DatabaseNow
from bunce_sync.models.deletion import delete_unseen


class CustomerSync(models.Model):
    """The state of the customers of one segment; the row exists once it ever had any."""

    segment = models.OneToOneField(
        "bunce_sync.Segment",
        verbose_name=_("segment"),
        related_name="customer_sync",
        on_delete=delete_unseen,
        db_constraint=False,  # see ``Member.segment``
        primary_key=True,
    )
    #: The key of the audience that the customers belong to; None if people and other code add them.
    key = models.CharField(_("audience"), max_length=200, null=True, unique=True)  # noqa: DJ001
    #: The segment in Bunce that the members' ``in_bunce`` is about.
    bunce_id = models.CharField(max_length=255, default="", blank=True)
    #: When the last waiting member was sent, and how many were in Bunce then.
    sent_all_at = models.DateTimeField(_("all sent at"), null=True)
    sent_count = models.BigIntegerField(_("sent"), null=True)

    # The comparison of an audience with its members

    run_requested_at = models.DateTimeField(null=True)
    run_token = models.UUIDField(null=True)
    run_lease_until = models.DateTimeField(null=True)
    next_run_at = models.DateTimeField(_("next comparison"), null=True)
    last_run_at = models.DateTimeField(_("last comparison"), null=True)
    #: How many members were added, changed, unchanged and removed; see ``audience_runs``.
    counts = models.JSONField(_("counts"), default=dict)
    #: The class of the exception that ended the last comparison. Its text may name a customer.
    run_error = models.CharField(_("error"), max_length=200, default="", blank=True)

    # The brake on removals

    #: Removals of the last 24 hours: lists of a time in seconds since 1970 and a number.
    removals = models.JSONField(default=list)
    held_at = models.DateTimeField(_("held at"), null=True)
    #: How many members the held removals concern, and of how many.
    held_removals = models.PositiveIntegerField(_("held removals"), default=0)
    held_members = models.PositiveIntegerField(default=0)
    #: The keys of some of these members.
    held_examples = models.JSONField(default=list)
    #: The queryset was empty.
    held_empty = models.BooleanField(default=False)
    #: Up to how many removals a person has confirmed.
    confirmed_removals = models.PositiveIntegerField(null=True)

    class Meta:
        verbose_name = _("customers of a segment")
        verbose_name_plural = _("customers of segments")
        default_permissions = ()
        permissions = [
            ("change_customers", _("Can add and remove customers of segments")),
            ("confirm_removals", _("Can confirm held removals of customers")),
        ]
        indexes = [models.Index(fields=["next_run_at"], name="bunce_customersync_next")]

    def __str__(self) -> str:
        return self.key or f"#{self.pk}"


class CustomerQueue(models.Model):
    """What one segment's adds, or its removals, wait for as a whole."""

    sync = models.ForeignKey(CustomerSync, related_name="queues", on_delete=models.CASCADE)
    operation = models.CharField(max_length=16, choices=Operation)
    #: When the last batch was taken: segments take turns.
    served_at = models.DateTimeField(db_default=DatabaseNow())
    #: No batch before; later after failures that concern all batches.
    due_at = models.DateTimeField(db_default=DatabaseNow())
    #: Consecutive failures, and among them consecutive refusals of different batches.
    failures = models.PositiveIntegerField(default=0)
    refusals = models.PositiveIntegerField(default=0)
    last_code = models.CharField(max_length=32, default="", blank=True)
    #: Bunce's words, without the customers they name.
    last_error = models.TextField(default="", blank=True)
    since = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("queue of customers")
        verbose_name_plural = _("queues of customers")
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["sync", "operation"], name="bunce_queue_unique")
        ]
        indexes = [models.Index(fields=["served_at"], name="bunce_queue_served")]

    def __str__(self) -> str:
        return f"{self.operation} #{self.sync_id}"


def ensure_sync(segment_id: int, *, using: str | None) -> CustomerSync:
    """Return the sync of a segment's customers, which is created at first."""
    syncs = CustomerSync.objects.using(using)
    sync = syncs.filter(pk=segment_id).first()
    if sync is None:
        sync, _created = syncs.get_or_create(segment_id=segment_id)
        ensure_queues(segment_id, using=using)
    return sync


def ensure_queues(segment_id: int, *, using: str | None) -> None:
    """Create the queues of a segment's customers, if they are missing."""
    CustomerQueue.objects.using(using).bulk_create(
        [
            CustomerQueue(sync_id=segment_id, operation=operation)
            for operation in (Operation.ADD, Operation.REMOVE)
        ],
        ignore_conflicts=True,
    )
