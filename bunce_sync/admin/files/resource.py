"""What a file's rows do to segments, and what a file shows of segments.

Reading a file changes nothing: it ends in a list of new segments and of changes, which a person
sees first. ``services.save_segments`` stores them, all or none, and only if the rows are still as
they were read.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import IntegrityError, models
from django.utils import timezone
from django.utils.translation import gettext as _
from import_export.fields import Field
from import_export.instance_loaders import BaseInstanceLoader
from import_export.resources import ModelResource
from import_export.results import Result, RowResult
from import_export.widgets import Widget

from bunce_sync import database, services
from bunce_sync.admin.files.formats import MISSING, FileError, as_text, is_blank
from bunce_sync.choices import Status
from bunce_sync.fingerprint import normalize
from bunce_sync.models import Segment
from bunce_sync.status import messages
from bunce_sync.status.presenters import describe_problem, visible_detail
from bunce_sync.validators import validate_characters

#: Segments that one query loads.
BATCH: Final = 500
#: The largest key that every database accepts in a query.
MAX_KEY: Final = 2**63 - 1
#: What people see of a segment beside the fields that they edit; never imported.
SHOWN_FIELDS: Final = (
    *("status", "problem", "bunce_id", "bunce_name", "bunce_description", "bunce_type"),
    *("bunce_all_customers", "bunce_customers_count", "bunce_created_at", "bunce_updated_at"),
    *("environment", "synced_at", "created_at", "updated_at"),
)
#: What neither an export nor an import loads.
UNUSED: Final = ("bunce_conditions",)
#: Segments that an export has in memory.
EXPORT_CHUNK: Final = 1_000

TRUE_WORDS: Final = ("true", "yes", "1", "oui", "vrai")
FALSE_WORDS: Final = ("false", "no", "0", "non", "faux")


def editable_fields(model: type[models.Model]) -> list[Any]:
    """Return the fields of a model that a file can write.

    Not those that only the sync writes, relations to many rows, and uploaded files, whose paths
    are not for a person to choose.
    """
    return [
        field
        for field in model._meta.concrete_fields
        if field.editable
        and not isinstance(field, models.AutoField | models.FileField)
        and not (field.remote_field and field.remote_field.parent_link)
        and field.name not in Segment.PROTECTED_FIELDS
    ]


class CellWidget(Widget):
    """Reads the cells of a model's field: texts as Django's serializers write them."""

    def __init__(self, field: Any) -> None:
        super().__init__()
        self.field = field

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> Any:
        """Return the value in a cell; an empty text or None if the cell is empty.

        Raises:
            ValidationError: the cell cannot be a value of the field.
        """
        field = self.field
        if isinstance(value, str):
            validate_characters(value)
        if isinstance(field, models.CharField | models.TextField):
            if isinstance(value, list | dict):
                raise ValidationError(_("Enter a text."))
            return "" if value is None else as_text(value)
        if is_blank([value]):
            return None
        if isinstance(field, models.BooleanField):
            return _as_boolean(value)
        if isinstance(field, models.JSONField):
            return json.loads(value, cls=field.decoder) if isinstance(value, str) else value
        return field.to_python(as_text(value))


def _as_boolean(value: Any) -> bool:
    word = as_text(value).strip().casefold()
    if word in (*TRUE_WORDS, _("Yes").casefold()):
        return True
    if word in (*FALSE_WORDS, _("No").casefold()):
        return False
    # No guess: a segment that adds all customers cannot be corrected.
    raise ValidationError(_("Enter yes or no."))


class Row(RowResult):
    """What one row of a file does.

    Attributes:
        number: of the row in the file.
        changes: the values before and after, by field; of a new segment, those of the file.
        doubled: whether a new segment has the name of another.
        label: what identifies the row to a person.
    """

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.changes: dict[str, tuple[Any, Any]] = {}
        self.doubled = False
        self.label = ""

    @property
    def label_before(self) -> str:
        """The name of a changed segment, as people know it."""
        return str(self.changes.get("name", (self.instance,))[0])

    @property
    def values_before(self) -> dict[str, Any]:
        """The values before of what the row changes."""
        return {name: before for name, (before, _after) in self.changes.items()}


class FileResult(Result):
    """What a file does."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []
        #: Columns of the file that are not read.
        self.ignored: list[str] = []

    @property
    def new(self) -> list[Row]:
        """The rows that create a segment."""
        return [row for row in self.rows if row.is_new()]

    @property
    def changed(self) -> list[Row]:
        """The rows that change a segment."""
        return [row for row in self.rows if row.is_update()]

    @property
    def invalid(self) -> list[Row]:
        """The rows that cannot be imported."""
        return [row for row in self.rows if not row.is_valid()]

    @property
    def digest(self) -> str:
        """A digest of all that an import would do, by which a change since then is noticed."""
        lines = [
            [row.number, row.import_type, row.instance.id, sorted(row.changes.items())]
            for row in self.rows
            if row.is_valid()
        ]
        return hashlib.sha256(json.dumps(lines, default=str).encode()).hexdigest()


class SegmentLoader(BaseInstanceLoader):
    """Finds the segments of a file with few queries."""

    def __init__(self, resource: SegmentResource, dataset: Any) -> None:
        super().__init__(resource, dataset)
        self._seen: set[int] = set()
        self._segments: dict[int, Segment] = {}
        headers = dataset.headers or []
        if "id" not in headers:
            return
        column = headers.index("id")
        keys = {as_key(row[column]) for row in dataset}
        known = sorted(key for key in keys if key is not None)
        for start in range(0, len(known), BATCH):
            batch = resource.get_queryset().filter(id__in=known[start : start + BATCH])
            self._segments |= {segment.id: segment for segment in batch}

    def get_instance(self, row: Mapping[str, Any]) -> Segment | None:
        """Return the segment of a row; None for a new one.

        Raises:
            ValidationError: there is no such segment, or an earlier row has the same.
        """
        cell = row["id"]
        if cell is MISSING or is_blank([cell]):
            return None
        key = as_key(cell)
        if key is None or key not in self._segments:
            message = _("There is no segment with this id. Without an id, the row creates one.")
            raise ValidationError({"id": message})
        if key in self._seen:
            raise ValidationError({"id": _("An earlier row has the same id.")})
        self._seen.add(key)
        return self._segments[key]


def as_key(cell: Any) -> int | None:
    """Return the primary key in a cell; None if it cannot be one."""
    text = "" if cell is MISSING or cell is None else as_text(cell).strip()
    is_key = text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= MAX_KEY
    return int(text) if is_key else None


class SegmentResource(ModelResource):
    """The columns of a file. Subclass it to add columns of your own.

    Args:
        rows: the segments that may be read and changed; all by default.
        may_change: whether the person may change a segment.
        readonly: the names of fields that the person may not write.
    """

    problem = Field(readonly=True)

    class Meta:
        model = Segment
        fields = ("id", *(field.name for field in editable_fields(Segment)), *SHOWN_FIELDS)
        instance_loader_class = SegmentLoader
        clean_model_instances = True
        report_skipped = False
        store_instance = True
        # The library's way to find changes copies each instance.
        skip_diff = True

    def __init__(
        self,
        rows: models.QuerySet[Segment] | None = None,
        may_change: Callable[[Segment], bool] = lambda segment: True,
        readonly: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._rows = rows
        self._may_change = may_change
        #: The fields that an import writes.
        self._written = {
            name: field
            for name, field in self.fields.items()
            if not field.readonly and name not in readonly
        }
        self._numbers: Sequence[int] = ()
        self._columns: set[str] = set()
        self._before: dict[str, Any] = {}
        self._labels: dict[tuple[str, str], str] = {}

    @classmethod
    def for_model(cls, model: type[Segment]) -> type[SegmentResource]:
        """Return the resource of a subclass of the model, with its own fields."""
        if model is cls._meta.model:
            return cls
        names = (field.name for field in editable_fields(model))
        meta = type("Meta", (), {"model": model, "fields": ("id", *names, *SHOWN_FIELDS)})
        metaclass: Any = type(cls)
        made: type[SegmentResource] = metaclass(f"{model.__name__}Resource", (cls,), {"Meta": meta})
        return made

    @classmethod
    def field_from_django_field(cls, field_name: str, django_field: Any, readonly: bool) -> Field:
        return Field(
            attribute=django_field.attname,
            column_name=field_name,
            widget=CellWidget(django_field),
            readonly=readonly or django_field not in editable_fields(django_field.model),
        )

    # Reading a file

    @classmethod
    def get_result_class(cls) -> type[FileResult]:
        return FileResult

    @classmethod
    def get_row_result_class(cls) -> type[Row]:
        return Row

    def get_queryset(self) -> models.QuerySet[Segment]:
        rows = self._meta.model._default_manager.all() if self._rows is None else self._rows
        return rows.using(database.alias()).defer(None).defer("bunce_description", *UNUSED)

    def get_import_fields(self) -> list[Field]:
        return [*self._written.values()]

    def get_user_visible_fields(self) -> list[Field]:
        return [self.fields["id"], *self._written.values()]

    def import_data(
        self,
        dataset: Any,
        dry_run: bool = False,
        raise_errors: bool = False,
        use_transactions: bool | None = None,
        collect_failed_rows: bool = False,
        rollback_on_validation_errors: bool = False,
        shown: str = "",
        once: str = "",
        **kwargs: Any,
    ) -> FileResult:
        """Read a file and, unless it is a dry run, store what it does: all of it, or nothing.

        Args:
            shown: the digest of the result that a person has seen; if it differs now, nothing is
                stored.
            once: identifies the file, which is stored only once.

        Raises:
            services.SegmentsChanged: the file would do something else than ``shown``.
            services.AlreadySaved: the file was stored before.
        """
        # Nothing is written yet, so there is no transaction that locks the database for seconds.
        result: FileResult = self.import_data_inner(
            dataset, True, raise_errors, False, collect_failed_rows, **kwargs
        )
        if dry_run or result.has_errors() or result.has_validation_errors():
            return result
        if shown and shown != result.digest:
            raise services.SegmentsChanged
        try:
            services.save_segments(
                [row.instance for row in result.new],
                [(row.instance, row.values_before) for row in result.changed],
                once=once,
            )
        except services.SegmentsChanged:
            if shown:
                raise
            problem = _("Nothing was imported: segments were changed meanwhile.")
            self.handle_import_error(result, FileError(problem), raise_errors)
        except IntegrityError as error:
            # Such as a unique field of a subclass that has the same value in two rows.
            problem = _("Nothing was imported: the database refused the rows (%(reason)s).")
            self.handle_import_error(result, FileError(problem % {"reason": error}), raise_errors)
        return result

    def before_import(self, dataset: Any, **kwargs: Any) -> None:
        """Note the columns of the file.

        Raises:
            FileError: neither names nor ids are among them.
        """
        self._numbers = getattr(dataset, "numbers", ())
        self._columns = {*(dataset.headers or ())}
        if not self._columns & {"id", "name"}:
            raise FileError(_("The file needs a column “name”, or “id” to change segments."))

    def after_import(self, dataset: Any, result: FileResult, **kwargs: Any) -> None:
        # Not the library's, which resets the table's sequence although no key was inserted.
        read = {field.column_name for field in self.get_user_visible_fields()}
        result.ignored = [name for name in dataset.headers or () if name and name not in read]
        result.notes = [*getattr(dataset, "notes", ())]
        _mark_doubled(result.new)

    def import_row(self, row: dict[str, Any], instance_loader: Any, **kwargs: Any) -> Row:
        position = kwargs["row_number"]
        result: Row = super().import_row(row, instance_loader, **kwargs)
        result.number = self._numbers[position - 1] if self._numbers else position
        result.label = _label(row)
        return result

    def after_init_instance(
        self, instance: Segment, new: bool, row: Mapping[str, Any], **kwargs: Any
    ) -> None:
        """Note the values before the row.

        Raises:
            ValidationError: the person may not change the segment.
        """
        if not new and not self._may_change(instance):
            raise ValidationError({"id": _("You may not change this segment.")})
        self._before = {name: field.get_value(instance) for name, field in self._written.items()}

    def import_instance(self, instance: Segment, row: Mapping[str, Any], **kwargs: Any) -> None:
        """Set what the row has and what differs.

        Raises:
            ValidationError: cells cannot be read; the messages are by column.
        """
        errors = {}
        for name, field in self._written.items():
            cell, before = row.get(field.column_name, MISSING), self._before[name]
            # A text that comes back unchanged need not be one that may be entered here.
            if cell is MISSING or (isinstance(cell, str) and _is_same(before, cell)):
                continue
            try:
                value = field.clean(row, **kwargs)
            except ValidationError as error:
                errors[name] = error
            except (ValueError, TypeError, ArithmeticError):
                errors[name] = ValidationError(_("Enter a valid value."))
            else:
                if not _keeps(instance, name, value) and not _is_same(before, value):
                    setattr(instance, field.attribute, value)
        if errors:
            raise ValidationError(errors)

    def skip_row(
        self, instance: Segment, original: Any, row: Any, import_validation_errors: Any = None
    ) -> bool:
        if import_validation_errors or instance._state.adding:
            return False
        return not self._changes(instance)

    def _changes(self, instance: Segment) -> dict[str, tuple[Any, Any]]:
        values = {name: field.get_value(instance) for name, field in self._written.items()}
        return {
            name: (self._before[name], value)
            for name, value in values.items()
            if value != self._before[name]
        }

    def validate_instance(
        self,
        instance: Segment,
        import_validation_errors: Mapping[str, Any] | None = None,
        validate_unique: bool = True,
    ) -> None:
        """Apply the model's rules to what the row sets.

        Raises:
            ValidationError: they refuse it; the messages are by field.
        """
        errors: dict[str, Any] = {**(import_validation_errors or {})}
        changed = self._changes(instance).keys()
        key = self._meta.model._meta.pk
        if not instance._state.adding and key.name in changed:
            errors[key.name] = ValidationError(_("This cannot be changed."))
        checked = {"name", *self._columns} if instance._state.adding else changed
        unchecked = {field.name for field in self._meta.model._meta.get_fields()} - checked
        try:
            if _is_cleaned_by_fields(instance, changed):
                instance.clean_fields(unchecked | errors.keys())
            else:
                instance.full_clean(
                    exclude=unchecked | errors.keys(),
                    validate_unique=validate_unique,
                    # Those of segments are behind validators, and each would be a query.
                    validate_constraints=instance._meta.concrete_model is not Segment,
                )
        except ValidationError as error:
            errors = error.update_error_dict(errors)
        if errors:
            raise ValidationError(errors)
        if not instance._state.adding:  # cleaning strips texts that the row did not change
            for name in self._before.keys() - changed:
                setattr(instance, self.fields[name].attribute, self._before[name])

    def save_instance(self, instance: Segment, is_create: bool, row: Any, **kwargs: Any) -> None:
        """Do nothing: ``import_data`` stores all rows together."""

    def save_m2m(self, instance: Segment, row: Any, **kwargs: Any) -> None:
        """Do nothing: relations to many rows are not imported."""

    def after_import_row(self, row: Any, row_result: Row, **kwargs: Any) -> None:
        if row_result.is_valid():
            row_result.changes = self._changes(row_result.instance)

    # Writing a file

    def export_rows(self, segments: models.QuerySet[Segment]) -> Iterator[list[Any]]:
        """Yield the cells of each segment, in the order of ``get_export_headers()``."""
        cells = [self._exporter(name) for name in self.get_export_order() if name in self.fields]
        rows = self.filter_export(segments).defer(None).defer(*UNUSED)
        # By key: the drivers of MySQL and MariaDB load the whole result of a query.
        keys = list(rows.values_list("id", flat=True))
        for start in range(0, len(keys), EXPORT_CHUNK):
            batch = keys[start : start + EXPORT_CHUNK]
            found = {segment.id: segment for segment in rows.order_by().filter(id__in=batch)}
            for segment in (found[key] for key in batch if key in found):
                yield [cell(segment) for cell in cells]

    def _exporter(self, name: str) -> Callable[[Segment], Any]:
        """Return the function that returns a segment's cell in a column."""
        field = self.fields[name]
        method = getattr(self, field.get_dehydrate_method(name), None)
        if method is not None:
            return method  # type: ignore[no-any-return]
        if not isinstance(field.widget, CellWidget):
            return field.export  # type: ignore[no-any-return]
        read, is_written = attrgetter(field.attribute), not field.readonly
        zone = timezone.get_current_timezone()

        def cell(segment: Segment) -> Any:
            value = read(segment)
            if not isinstance(value, datetime):
                return value
            local = value if timezone.is_naive(value) else value.astimezone(zone)
            # What may come back with an import is compared exactly.
            return as_text(local) if is_written else local.replace(microsecond=0)

        return cell

    def dehydrate_status(self, segment: Segment) -> str:
        """Return the status as the list shows it."""
        code = segment.problem_code if segment.status == Status.SYNCED else ""
        key = segment.status, code
        if key not in self._labels:
            label = messages.BADGE_SYNCED.get(code, Status(segment.status).label)
            self._labels[key] = str(label)
        return self._labels[key]

    def dehydrate_problem(self, segment: Segment) -> str:
        """Return the problem in words, with Bunce's message; empty if there is none."""
        code = segment.problem_code
        if not code:
            return ""
        cause = describe_problem(code, segment.bunce_duplicate_id or segment.last_error)
        return f"{cause} {visible_detail(code, segment.last_error)}".strip()


def _label(row: Mapping[str, Any]) -> str:
    """Return what identifies a row to a person."""
    cells = (row.get(name) for name in ("name", "id"))
    return next((as_text(cell) for cell in cells if cell not in (None, "", MISSING)), "")


def _is_cleaned_by_fields(instance: Segment, changed: Collection[str]) -> bool:
    """Return whether nothing but the rules of single fields can refuse a change.

    ``Segment.clean`` would read each row once more, only to compare what did not change.
    """
    is_plain = (
        type(instance)._meta.concrete_model is Segment and type(instance).clean is Segment.clean
    )
    return is_plain and not instance._state.adding and "add_all_customers" not in changed


def _keeps(instance: Segment, name: str, value: Any) -> bool:
    """Return whether an empty cell leaves the field as it is: a new row's, or one that is not
    a text and cannot be empty."""
    if value == "":
        return instance._state.adding
    return value is None and (instance._state.adding or not instance._meta.get_field(name).null)


def _is_same(before: Any, value: Any) -> bool:
    """Return whether values differ at most in what spreadsheets change about a text."""
    if isinstance(value, str) and (before is None or isinstance(before, str)):
        return normalize(value) == normalize(before or "")
    return bool(before == value)


def _mark_doubled(rows: Sequence[Row]) -> None:
    """Mark the new rows with the name of another segment, here or in the file."""
    names = Counter(row.instance.name for row in rows)
    known = {name for name, count in names.items() if count > 1}
    ordered = [*names]
    for start in range(0, len(ordered), BATCH):
        found = database.segments().filter(name__in=ordered[start : start + BATCH])
        known |= {*found.values_list("name", flat=True)}
    for row in rows:
        row.doubled = row.instance.name in known
