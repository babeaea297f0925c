"""The segment model. Its table is also the queue of pushes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, TypeAlias

from django.core.exceptions import ValidationError
from django.db import models, router, transaction
from django.db.models import Q
from django.db.models.functions import Length, Trim
from django.db.models.lookups import GreaterThan, LessThanOrEqual
from django.utils.translation import gettext_lazy as _

from bunce_sync import choices, transitions
from bunce_sync.conf import conf
from bunce_sync.customer_entries import read_entries
from bunce_sync.exceptions import CustomersNotByHand
from bunce_sync.fingerprint import (
    MAX_TEXT_LENGTH,
    field_digest,
    listed_fingerprint,
    normalize,
    sent_fingerprint,
)
from bunce_sync.functions import DatabaseNow
from bunce_sync.models.api_call import ApiCall
from bunce_sync.models.customer_sync import ensure_sync
from bunce_sync.models.forgotten import forgotten_among
from bunce_sync.models.member import Member
from bunce_sync.models.member_queryset import MemberQuerySet
from bunce_sync.models.push_hold import open_block
from bunce_sync.models.segment_queryset import SegmentQuerySet, only_the_sync_writes
from bunce_sync.signals import customers_changed
from bunce_sync.validators import (
    NAME_LENGTH,
    is_visible,
    validate_characters,
    validate_description_length,
    validate_visible,
)


class Segment(models.Model):
    """A segment as the site wants it, as Bunce has it, and the status of the sync between them.

    People and other code write the editable fields (and those of a subclass). ``SYNC_FIELDS``
    belong to ``bunce_sync.sync``, which writes them with ``SegmentQuerySet.update_sync_fields``.
    All other writes ignore values for these fields: an instance, a fixture or an older version of
    the row, loaded before a worker recorded the Bunce id, must not erase that id.
    """

    Status: TypeAlias = choices.Status

    #: The fields that a create sends.
    CREATE_FIELDS: ClassVar = ("name", "description", "add_all_customers")
    #: The fields that an update sends.
    UPDATE_FIELDS: ClassVar = ("name", "description")
    #: The fields that only a create sends, so that no update can correct them.
    CREATE_ONLY_FIELDS: ClassVar = frozenset(CREATE_FIELDS) - frozenset(UPDATE_FIELDS)
    #: The fields that only the sync writes. A new row starts with their defaults.
    SYNC_FIELDS: ClassVar = frozenset(
        {
            *("bunce_id", "bunce_name", "bunce_description", "bunce_type", "bunce_all_customers"),
            *("bunce_conditions", "bunce_customers_count", "bunce_created_at", "bunce_updated_at"),
            *("bunce_duplicate_id", "status", "due_at", "lease_token", "lease_until", "attempts"),
            *("sent_digest", "listed_digest", "shown_digest", "sent_at", "last_code", "last_error"),
            *("absent_at", "synced_at", "refresh_requested_at", "created_at", "environment"),
            *("settled", "imported_at", "hold"),
        }
    )
    #: The fields that no caller can set: the sync's, and the time of the last write.
    PROTECTED_FIELDS: ClassVar = SYNC_FIELDS | {"updated_at"}
    #: The columns that can be long. Only what shows or sends them loads them.
    LONG_FIELDS: ClassVar = ("description", "bunce_description", "bunce_conditions")
    #: The codes of synced rows whose content in Bunce differs; a push would replace it.
    DIFFERING: ClassVar = ("drift", "stored_differently")
    #: The condition for rows whose ``problem_code`` is not empty.
    HAS_PROBLEM: ClassVar = ~Q(last_code="") | Q(status=Status.SYNCED) & (
        Q(bunce_duplicate_id__isnull=False)
        | Q(bunce_all_customers=True, add_all_customers=False)
        | Q(bunce_all_customers=False, add_all_customers=True)
    )

    name = models.CharField(
        _("name"), max_length=NAME_LENGTH, validators=[validate_visible, validate_characters]
    )
    description = models.TextField(  # noqa: DJ001 - Bunce's own shape
        _("description"),
        null=True,
        blank=True,
        validators=[validate_description_length, validate_characters],
    )
    add_all_customers = models.BooleanField(
        _("add all customers"),
        default=False,
        db_default=False,
        help_text=_(
            "Bunce adds all customers when it creates the segment. It cannot be changed later."
        ),
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
        help_text=_(
            "Created by a request whose response arrived after the row was already linked."
        ),
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
        help_text=_("When a waiting row may be sent, or one in doubt may be searched for."),
    )
    lease_token = models.UUIDField(_("lease token"), null=True, editable=False)
    lease_until = models.DateTimeField(_("lease until"), null=True, editable=False)
    attempts = models.PositiveIntegerField(_("attempts"), default=0, db_default=0, editable=False)
    sent_digest = models.CharField(
        _("content last sent"), max_length=64, default="", db_default="", editable=False, blank=True
    )
    listed_digest = models.CharField(
        _("content last sent, as listed"),
        max_length=64,
        default="",
        db_default="",
        editable=False,
        blank=True,
        help_text=_("How Bunce's list shows what was sent: reconciliation compares it."),
    )
    sent_at = models.DateTimeField(_("last sent at"), null=True, editable=False)
    shown_digest = models.CharField(
        _("content first shown by Bunce"),
        max_length=64,
        default="",
        db_default="",
        editable=False,
        blank=True,
        help_text=_("What Bunce showed after the last push. Other content later is drift."),
    )
    last_code = models.CharField(
        _("last problem"), max_length=32, default="", db_default="", editable=False, blank=True
    )
    last_error = models.TextField(
        _("last error"), default="", db_default="", editable=False, blank=True
    )
    absent_at = models.DateTimeField(
        _("absent at"),
        null=True,
        editable=False,
        help_text=_("When Bunce's whole list was last searched without finding the segment."),
    )
    synced_at = models.DateTimeField(_("synced at"), null=True, editable=False)
    environment = models.CharField(
        _("environment"),
        max_length=255,
        default="",
        db_default="",
        editable=False,
        blank=True,
        help_text=_("Where the segment was sent or found. Empty until then."),
    )
    settled = models.JSONField(
        _("settled fields"),
        null=True,
        editable=False,
        help_text=_("Digests of the fields that Bunce has as they are here; updates omit them."),
    )
    imported_at = models.DateTimeField(_("imported at"), null=True, editable=False)
    hold = models.ForeignKey(
        "bunce_sync.PushHold",
        verbose_name=_("hold"),
        related_name="segments",
        on_delete=models.DO_NOTHING,
        db_index=False,  # there are seldom any, and each insert would write the index
        null=True,
        editable=False,
    )
    refresh_requested_at = models.DateTimeField(
        _("refresh requested at"), null=True, editable=False
    )

    # Set by the database's clock. With the clocks of the hosts, a reader that asks for changes
    # since a time could miss rows that were saved on a host whose clock is behind.
    created_at = models.DateTimeField(_("created at"), db_default=DatabaseNow(), editable=False)
    updated_at = models.DateTimeField(_("updated at"), db_default=DatabaseNow(), editable=False)

    #: Whether another row takes over the segment in Bunce, so that deleting this row is no reason
    #: to leave the segment out of imports.
    given_away: bool = False
    #: The segment in Bunce that a new row belongs to; ``SegmentQuerySet.link`` sets it.
    linked_id: str | None = None

    #: Fields that a form shows and that were not edited. Validators do not apply to them: an
    #: imported description may be longer than ``DESCRIPTION_MAX_LENGTH``.
    unedited: Collection[str] = ()

    objects = SegmentQuerySet.as_manager()

    class Meta:
        verbose_name = _("segment")
        verbose_name_plural = _("segments")
        ordering = ("-id",)
        # Saves of instances and third-party apps use the base manager.
        base_manager_name = "objects"
        permissions = [("push_segment", _("Can push segments to Bunce"))]
        indexes = [
            # Due rows, rows in doubt, expired leases, and the count of each status.
            models.Index(fields=["status", "due_at"], name="bunce_segment_status_due"),
            # Not db_index, which makes a second index on PostgreSQL, for LIKE.
            models.Index(fields=["environment"], name="bunce_segment_environment"),
            # Requested refreshes; SQLite ignores an index without the second column.
            models.Index(
                fields=["refresh_requested_at", "environment"], name="bunce_segment_refresh"
            ),
            # The rows of one status in the admin's order; without it MariaDB sorts all of them.
            models.Index(fields=["status", "id"], name="bunce_segment_status_id"),
            # The columns by which the admin sorts, and the date filters of admin and REST API.
            models.Index(fields=["created_at", "id"], name="bunce_segment_created"),
            models.Index(fields=["updated_at", "id"], name="bunce_segment_updated"),
            models.Index(fields=["name", "id"], name="bunce_segment_name"),
            # Rows in doubt, and rows that wait, by what Bunce's list would show for them.
            models.Index(fields=["listed_digest"], name="bunce_segment_listed"),
            # Filtering by a rare type would otherwise read the whole table.
            models.Index(fields=["bunce_type"], name="bunce_segment_type"),
            # What differs in Bunce or is gone there, in the admin's order.
            models.Index(fields=["last_code", "id"], name="bunce_segment_code"),
            # What was imported, and what was not.
            models.Index(fields=["imported_at", "id"], name="bunce_segment_imported"),
            # Not a partial index, which MariaDB and MySQL lack: rows without a value cost little.
            models.Index(fields=["bunce_duplicate_id"], name="bunce_segment_duplicate"),
        ]
        constraints = [
            models.CheckConstraint(
                name="bunce_segment_name_not_blank",
                condition=Q(GreaterThan(Length(Trim("name")), 0)),
                violation_error_message=_("Enter a name with at least one visible character."),
            ),
            # For writes that call no validator. SQLite does not enforce the length of a column.
            models.CheckConstraint(
                name="bunce_segment_texts_bounded",
                condition=Q(LessThanOrEqual(Length("name"), NAME_LENGTH))
                & (
                    Q(description__isnull=True)
                    | Q(LessThanOrEqual(Length("description"), MAX_TEXT_LENGTH))
                ),
                violation_error_message=_("The name or the description is too long."),
            ),
            models.CheckConstraint(
                name="bunce_segment_id_not_empty",
                condition=~Q(bunce_id=""),
                violation_error_message=_("A segment that is not in Bunce has no Bunce id."),
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
                violation_error_message=_("A segment has a lease if and only if it is being sent."),
            ),
        ]

    def __str__(self) -> str:
        # Code may store a name of which nothing can be seen, and it could not be clicked.
        return self.name if is_visible(self.name) else f"#{self.pk}"

    def save(self, *args: Any, update_fields: Iterable[str] | None = None, **kwargs: Any) -> None:
        """Save the editable fields. ``_save_table`` makes a changed row at rest pending.

        Args:
            update_fields: as in Django; names in ``SYNC_FIELDS`` are ignored.

        Raises:
            ValueError: all of ``update_fields`` are in ``SYNC_FIELDS``, or a new instance has a
                Bunce id, which only Bunce assigns.
        """
        self._refuse_own_id()
        if update_fields is not None:
            update_fields = list(update_fields)
            writable = [name for name in update_fields if name not in self.SYNC_FIELDS]
            if update_fields and not writable:
                raise ValueError(only_the_sync_writes("Segment.save()", update_fields))
            update_fields = writable
        super().save(*args, update_fields=update_fields, **kwargs)

    def _save_table(
        self,
        raw: bool = False,
        cls: type[models.Model] | None = None,
        force_insert: bool = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> bool:
        """Write one table, then load the values that the database computed.

        Every save of an instance calls this method, including raw saves (``loaddata``,
        django-reversion), which bypass ``save()``. It runs before ``post_save``, so that receivers
        see values instead of expressions.
        """
        arguments = (raw, cls, force_insert, force_update, using, update_fields)
        if cls is not Segment:  # the table of a subclass
            updated = bool(super()._save_table(*arguments))  # type: ignore[misc]  # not in the stubs
            self._load_stored(using, cls)
            return updated
        if (pk := self.id) is None:
            # One INSERT, which needs no transaction of its own.
            super()._save_table(*arguments)
            self._load_stored(using, Segment)
            return False
        with transaction.atomic(using=using, savepoint=False):
            updated = bool(super()._save_table(*arguments))  # type: ignore[misc]  # as above
            if updated:
                Segment.objects.using(using).requeue_changed([pk])
            self._load_stored(using, Segment, self.PROTECTED_FIELDS if updated else ())
        return updated

    def _do_update(
        self, base_qs: Any, using: str | None, pk_val: Any, values: Any, *args: Any
    ) -> Any:
        """Update one table; in the segment's own table only the editable fields."""
        if base_qs.model is Segment:
            values = [value for value in values if value[0].name not in self.PROTECTED_FIELDS]
            values.append((Segment._meta.get_field("updated_at"), None, DatabaseNow()))
        return super()._do_update(base_qs, using, pk_val, values, *args)

    def _do_insert(
        self, manager: Any, using: str | None, fields: Any, returning_fields: Any, raw: bool
    ) -> Any:
        """Insert one row; a new segment starts with the defaults of ``SYNC_FIELDS``."""
        if manager.model is Segment:
            self.prepare_insert(hold_id=open_block(using), raw=raw)
        insert = super()._do_insert  # type: ignore[misc]  # not in the stubs
        return insert(manager, using, fields, returning_fields, raw)

    def prepare_insert(self, *, hold_id: int | None, raw: bool = False) -> None:
        """Set the sync's fields to the values of a row that was never sent.

        An instance that already has a primary key is being restored, from a dump or an older
        version. It keeps its Bunce id; otherwise it would be created a second time.

        Args:
            hold_id: of the ``no_push()`` block that inserts it.
            raw: whether a serialized row is being restored.

        Raises:
            ValueError: a new instance has a Bunce id, which only Bunce assigns.
        """
        self._refuse_own_id()
        if raw or self.id is not None:
            self._prepare_raw_insert()
            self.hold_id = hold_id
            return
        # A copy of a row is a new segment.
        for name in self.PROTECTED_FIELDS:
            field = Segment._meta.get_field(name)
            setattr(self, field.attname, field.get_default())
        self.hold_id = hold_id
        if self.linked_id is not None:
            values = transitions.linked_by_code(self, self.linked_id, now=DatabaseNow())
            self.set_stored(**values, environment=conf.environment)

    def _prepare_raw_insert(self) -> None:
        """Keep the Bunce id of a row that is restored from a dump or an older version."""
        self.bunce_id = self.bunce_id or None
        body = None
        if self.bunce_id is not None:
            confirmed = ApiCall.objects.filter(
                segment_id=self.id, outcome=ApiCall.Outcome.CONFIRMED, body__isnull=False
            )
            body = confirmed.order_by("-pk").values_list("body", flat=True).first()
        self.settled = None
        values = transitions.after_raw_insert(self, body, now=DatabaseNow())
        if "status" in values:
            values["updated_at"] = DatabaseNow()
        self.set_stored(**values)

    def set_stored(self, **values: Any) -> None:
        """Set fields, also those of the sync, as they are or will be stored."""
        for name, value in values.items():
            setattr(self, name, value)

    def _refuse_own_id(self) -> None:
        """Refuse a Bunce id set by the caller: ignoring it would create a second segment."""
        if self.bunce_id and self.id is None and self._state.db is None:
            raise ValueError("A new segment gets its Bunce id from Bunce: do not set bunce_id.")

    def _load_stored(
        self, using: str | None, cls: type[models.Model] | None, names: Iterable[str] = ()
    ) -> None:
        """Load these fields of one table, and all fields that hold an expression."""
        if cls is None:
            return
        pending = [
            field.name
            for field in cls._meta.local_concrete_fields
            if hasattr(self.__dict__.get(field.attname), "resolve_expression")
        ]
        # By the columns' names: the value of a foreign key is not an instance.
        columns = {field.name: field.attname for field in cls._meta.local_concrete_fields}
        names = {columns[name] for name in {*names, *pending}}
        if names:
            rows = cls._base_manager.using(using).filter(pk=self._get_pk_val(cls._meta))
            self.set_stored(**rows.values(*names).get())

    def add_customers(
        self, customers: Iterable[str | int | Mapping[str, Any]], *, retry: bool = True
    ) -> Counter[str]:
        """Have customers in this segment; a worker sends them to Bunce.

        Bunce creates customers that it does not know, and updates the profile fields of the others
        with what is given here. All of the customers are stored, or none.

        Args:
            customers: of each the site's id or an email address, or a mapping with
                ``customer_id``, ``email`` or both, and any of ``first_name``, ``last_name`` and
                ``phone_no``.
            retry: also send those again that Bunce refused.

        Returns:
            How many were ``added``, ``changed``, ``unchanged``, or left out as ``forgotten``.

        Raises:
            InvalidCustomer: one cannot be used; its message gives the position.
            CustomersNotByHand: the segment has all customers, or those of an audience.
        """
        entries = read_entries(customers)
        with transaction.atomic(using=self.write_alias):
            self._begin_customers_by_hand()
            known = forgotten_among([entry.identifier for entry in entries], using=self.write_alias)
            entries = [entry for entry in entries if entry.identifier not in known]
            counts = self._members.want(self.id, entries, retry=retry)
            self._announce_customers()
        if known:
            counts["forgotten"] = len(known)
        return counts

    def remove_customers(self, customers: Iterable[str | int | Mapping[str, Any]]) -> Counter[str]:
        """Have customers out of this segment; a worker tells Bunce, which keeps the customers.

        Args:
            customers: as for ``add_customers``. Those that are not in the segment are ignored.

        Returns:
            How many were ``removed`` or ``unchanged``.

        Raises:
            InvalidCustomer: one cannot be used; its message gives the position.
            CustomersNotByHand: the segment has all customers, or those of an audience.
        """
        identifiers = [entry.identifier for entry in read_entries(customers)]
        with transaction.atomic(using=self.write_alias):
            self._begin_customers_by_hand()
            counts = self._members.unwant(self.id, identifiers)
            self._announce_customers()
        return counts

    @property
    def write_alias(self) -> str:
        """The database where the segment is written."""
        return router.db_for_write(Segment, instance=self)

    @property
    def _members(self) -> MemberQuerySet:
        return Member.objects.using(self.write_alias)

    def _begin_customers_by_hand(self) -> None:
        if self.pk is None:
            raise ValueError("Save the segment before its customers are changed.")
        if self.add_all_customers or self.bunce_all_customers:
            raise CustomersNotByHand("The segment has all customers.")
        key = ensure_sync(self.id, using=self.write_alias).key
        if key is not None:
            raise CustomersNotByHand(f"The customers come from the audience {key}.")
        if (hold_id := open_block(self.write_alias)) is not None:
            rows = Segment.objects.using(self.write_alias).filter(pk=self.id)
            rows.update_sync_fields(hold=hold_id)

    def _announce_customers(self) -> None:
        def send() -> None:
            customers_changed.send_robust(sender=Segment, segment_id=self.id)

        transaction.on_commit(send, using=self.write_alias, robust=True)

    def content(self, names: Iterable[str]) -> dict[str, Any]:
        """Return the values of these fields by name, as sent to Bunce."""
        return {name: getattr(self, name) for name in names}

    @classmethod
    def digests_of(cls, content: Mapping[str, Any]) -> dict[str, str]:
        """Return the fingerprints to store when this content is sent.

        Args:
            content: the fields of a create or an update by name.
        """
        return {
            "sent_digest": sent_fingerprint(
                {name: content.get(name) for name in cls.UPDATE_FIELDS}
            ),
            "listed_digest": listed_fingerprint(content["name"], content["description"]),
        }

    @property
    def unsettled_fields(self) -> tuple[str, ...]:
        """The fields an update sends: those that Bunce may not have as they are here."""
        digests = self.field_digests(self.UPDATE_FIELDS)
        return tuple(
            name for name, digest in digests.items() if self.settled_digests.get(name) != digest
        )

    @property
    def settled_digests(self) -> dict[str, str]:
        """The digests in ``settled``, whatever a dump may have put there."""
        return self.settled if isinstance(self.settled, dict) else {}

    def field_digests(self, names: Iterable[str]) -> dict[str, str]:
        """Return the digest of each of these fields, for ``settled``."""
        return {name: field_digest(getattr(self, name)) for name in names}

    @property
    def is_here(self) -> bool:
        """Whether the segment belongs to the current environment, or to none yet."""
        return self.environment in ("", conf.environment)

    @property
    def differing_fields(self) -> tuple[str, ...]:
        """The fields of which Bunce, when last read, showed another value than they have here.

        Texts are compared in the form that this site can hold, see ``local_form``.
        """
        if self.bunce_id is None:
            return ()
        held = transitions.held_content(self)
        differing = [
            name
            for name, value in held.items()
            if normalize(str(value or "")) != normalize(getattr(self, name) or "")
        ]
        if self.bunce_all_customers not in (None, self.add_all_customers):
            differing.append("add_all_customers")
        return tuple(differing)

    @property
    def is_untouched_import(self) -> bool:
        """Whether the segment was imported, and never edited or sent since."""
        unsent = self.imported_at is not None and self.sent_at is None
        return unsent and self.status == Segment.Status.SYNCED and not self.unsettled_fields

    @property
    def content_fingerprint(self) -> str:
        """The fingerprint of the update that would be sent now; ``sent_digest`` if none is due."""
        return sent_fingerprint(self.content(self.UPDATE_FIELDS))

    @property
    def listed_fingerprint(self) -> str:
        """The fingerprint that Bunce's list would show for the row's content."""
        return listed_fingerprint(self.name, self.description)

    @property
    def all_customers_fixed(self) -> bool:
        """Whether ``add_all_customers`` can no longer change: Bunce reads it only in a create."""
        under_way = (Segment.Status.SENDING, Segment.Status.IN_DOUBT)
        return self.bunce_id is not None or self.status in under_way

    @property
    def creates(self) -> bool:
        """Whether the next push is a create; else it is an update."""
        return self.bunce_id is None

    @property
    def problem_code(self) -> str:
        """The code of the problem to show for this row. A duplicate in Bunce comes first."""
        if self.status == Segment.Status.SYNCED:
            if self.bunce_duplicate_id is not None:
                return "duplicate"
            if not self.last_code and self.bunce_all_customers not in (
                None,
                self.add_all_customers,
            ):
                return "all_customers"
        return self.last_code

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        """Strip the texts before they are measured, as forms and serializers do.

        Fields in ``unedited`` are not validated.

        Raises:
            ValidationError: a field is not valid.
        """
        self._strip()
        super().clean_fields({*(exclude or ()), *self.unedited})

    def _strip(self) -> None:
        for name in ("name", "description"):
            value = getattr(self, name)
            if isinstance(value, str):
                setattr(self, name, value.strip())
        self.description = self.description or None

    def clean(self) -> None:
        """Strip the texts, and refuse a change that Bunce's API does not offer.

        Raises:
            ValidationError: ``add_all_customers`` changed after the create was sent.
        """
        super().clean()
        self._strip()
        if self.pk and not self._state.adding:
            rows = Segment.objects.using(self._state.db).filter(pk=self.id)
            before = rows.only("add_all_customers", "bunce_id", "status").first()
            changed = before and before.add_all_customers != self.add_all_customers
            if before and changed and before.all_customers_fixed:
                raise ValidationError(
                    {
                        "add_all_customers": _(
                            "This cannot be changed here: the segment was already sent to Bunce,"
                            " whose API cannot change it. Change it in Bunce's dashboard."
                        )
                    },
                    code="fixed",
                )
