"""The form of the change page, which saves only what the person changed.

The page contains the values of the row that it showed. When it comes back, they are compared with
the row as it is now, which is locked: if the row was changed meanwhile, nothing is saved, and the
page comes back with the new values. Saving again saves what the person has edited.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.functional import cached_property
from django.utils.text import Truncator, capfirst
from django.utils.translation import gettext as _

from bunce_sync.status import messages

if TYPE_CHECKING:
    Base = forms.ModelForm[Any]
else:
    Base = forms.ModelForm

#: The hidden field with what the page showed. A program that posts the form may leave it out.
SHOWN: Final = "bunce_shown"
#: Characters of a value that a message shows.
SHOWN_LENGTH: Final = 60

Snapshot = dict[str, str]


def snapshot(row: models.Model, names: Iterable[str]) -> Snapshot:
    """Return the values of a row's fields as texts, which are equal if and only if they are."""
    values = {}
    for name in names:
        field = _field(row, name)
        if field is not None:
            values[name] = _as_text(field, row)
    return values


def label_of(row: models.Model, name: str) -> str:
    """Return how a form labels a field."""
    field = _field(row, name)
    return capfirst(str(field.verbose_name)) if field is not None else name


class EditForm(Base):
    """A form of an existing row; mix it into the admin's form."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.show_hidden_initial = False  # Django's own way, for some fields only
        self._before = {
            name: getattr(self.instance, field.attname)
            for name in self.fields
            if isinstance(field := _field(self.instance, name), models.Field)
            and not isinstance(field, models.ManyToManyField)
        }
        self._now = snapshot(self.instance, self.fields)
        shown = self._shown()
        #: What was changed since the page was shown, with the value that it showed.
        self._changed_meanwhile = {
            name: shown[name]
            for name in self._now
            if shown.get(name, self._now[name]) != self._now[name]
        }
        self._current = {name: self.initial.get(name) for name in self._changed_meanwhile}
        for name, text in self._changed_meanwhile.items():
            # Whether the person edited it depends on what they saw.
            self.initial[name] = _as_value(_field(self.instance, name), text)

    @cached_property
    def changed_data(self) -> list[str]:
        """Return the names of the fields that the person edited."""
        return [name for name in super().changed_data if not self._is_same_text(name)]

    def clean(self) -> dict[str, Any] | None:
        """Keep what the person did not edit as it is in the row.

        Raises:
            ValidationError: the row was changed since the page was shown.
        """
        self._refuse_lost_box()
        for name in self.cleaned_data.keys() - {*self.changed_data}:
            if isinstance(self.fields[name], forms.CharField):  # whose spaces were stripped
                self.cleaned_data[name] = self.initial.get(name, self.cleaned_data[name])
        self._as_sent = dict(self.cleaned_data)
        cleaned = super().clean()
        if self._changed_meanwhile:
            edited = {*self.changed_data}
            lines = [self._describe(name, name in edited) for name in self._changed_meanwhile]
            for name in self._changed_meanwhile.keys() - edited:
                self._show(name, self._current[name])
            raise ValidationError([messages.CHANGED_MEANWHILE, *lines], code="changed_meanwhile")
        return cleaned

    def _post_clean(self) -> None:
        """Fill the instance as in Django, but leave unedited fields exactly as they were."""
        edited = {*self.changed_data}
        self.instance.unedited = self._before.keys() - edited
        super()._post_clean()  # type: ignore[misc]  # not in the stubs
        for name, value in self._before.items():
            cleaned = self.cleaned_data.get(name)
            if name not in edited and cleaned == getattr(self, "_as_sent", {}).get(name):
                setattr(self.instance, _field(self.instance, name).attname, value)

    def _shown(self) -> Snapshot:
        """Return what the page showed; nothing if it does not say."""
        try:
            shown = json.loads(self.data.get(SHOWN, "")) if self.is_bound else {}
        except (TypeError, ValueError):
            return {}
        if not isinstance(shown, Mapping):
            return {}
        return {name: text for name, text in shown.items() if isinstance(text, str)}

    def _refuse_lost_box(self) -> None:
        """Refuse a choice of the page that the form does not offer any more.

        Raises:
            ValidationError: the segment was sent since, so the box cannot be changed.
        """
        name = "add_all_customers"
        shown = self._shown().get(name)
        if name in self.fields or shown is None or str(name in self.data) == shown:
            return
        raise ValidationError(
            messages.NOT_SAVED % {"label": label_of(self.instance, name)}
            + f" {messages.FIXED_AFTER_SENDING}",
            code="fixed",
        )

    def _is_same_text(self, name: str) -> bool:
        """Return whether a text differs only in what browsers change about line breaks."""
        field = self.fields[name]
        if not isinstance(field, forms.CharField):
            return False
        before = self.initial.get(name)
        after = field.widget.value_from_datadict(self.data, self.files, self.add_prefix(name))
        if not isinstance(before, str) or not isinstance(after, str):
            return False
        line_break = "\n" if isinstance(field.widget, forms.Textarea) else ""
        return _with(line_break, before) == _with(line_break, after)

    def _describe(self, name: str, edited: bool) -> str:
        text = messages.CHANGED_TO % {
            "label": self[name].label,
            "before": self._readable(name, self._changed_meanwhile[name]),
            "after": self._readable(name, self._now[name]),
        }
        return f"{text} {messages.SAVING_REPLACES}" if edited else text

    def _readable(self, name: str, text: str) -> str:
        field = _field(self.instance, name)
        if isinstance(field, models.BooleanField) and text in ("True", "False"):
            return _("Yes") if text == "True" else _("No")
        return Truncator(text).chars(SHOWN_LENGTH) or str(messages.EMPTY_VALUE)

    def _show(self, name: str, value: Any) -> None:
        """Make the page that comes back show a value instead of what was sent."""
        self.fields[name].bound_data = lambda data, initial: value  # type: ignore[method-assign]


def _field(row: models.Model, name: str) -> Any:
    """Return the model's field of a form's field; None if it has none."""
    fields = (*row._meta.concrete_fields, *row._meta.many_to_many)
    return next((field for field in fields if field.name == name), None)


def _as_text(field: Any, row: models.Model) -> str:
    if isinstance(field, models.ManyToManyField):
        keys = getattr(row, field.name).values_list("pk", flat=True) if row.pk else []
        return ",".join(sorted(map(str, keys)))
    value = getattr(row, field.attname)
    if value is None:
        return ""
    if isinstance(field, models.JSONField):
        return json.dumps(value, cls=field.encoder, sort_keys=True)
    return str(field.value_to_string(row))


def _as_value(field: Any, text: str) -> Any:
    """Return the value that a text of a snapshot represents."""
    if isinstance(field, models.ManyToManyField):
        return [key for key in text.split(",") if key]
    if not text and field.null:
        return None
    try:
        if isinstance(field, models.JSONField):
            return json.loads(text, cls=field.decoder)
        return field.to_python(text)
    except (ValidationError, ValueError):  # only a forged page contains such a value
        return text


def _with(line_break: str, text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", line_break)
