"""The form of the change page, which saves only what the person changed.

The page contains the values it showed, as hidden fields. When it comes back, they are compared with
the row as it is now, which is locked: if the row was changed meanwhile, nothing is saved, and the
page comes back with the new values. Saving again saves what the person has edited.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.forms import BoundField
from django.utils.text import Truncator
from django.utils.translation import gettext as _

from bunce_sync.status import messages

if TYPE_CHECKING:
    Base = forms.ModelForm[Any]
else:
    Base = forms.ModelForm

#: Characters of a value that a message shows.
SHOWN_LENGTH: Final = 60


class EditForm(Base):
    """A form of an existing row; mix it into the admin's form."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            # A program that posts the form may leave the hidden values out.
            sent = not self.is_bound or self.add_initial_prefix(name) in self.data
            field.show_hidden_initial = sent and not isinstance(field, forms.MultiValueField)

    def clean(self) -> dict[str, Any] | None:
        """Keep what the person did not edit as it is in the row.

        Raises:
            ValidationError: the row was changed since the page was shown.
        """
        cleaned = super().clean()
        edited = set(self.changed_data)
        values = self.cleaned_data if cleaned is None else cleaned
        for name in values.keys() - edited:
            if isinstance(self.fields[name], forms.CharField):  # whose spaces were stripped
                values[name] = self.initial.get(name, values[name])
        if changed := self._changed_meanwhile():
            lines = [self._describe(field, field.name in edited) for field in changed]
            self._show_current(changed, keep=edited)
            raise ValidationError([messages.CHANGED_MEANWHILE, *lines], code="changed_meanwhile")
        return cleaned

    def shown_values(self) -> Iterator[tuple[str, str, str]]:
        """Yield label, name of the hidden field, and value of each field that the page compares."""
        for field in self:
            if field.field.show_hidden_initial:
                yield str(field.label), field.html_initial_name, _as_text(field, field.initial)

    def _changed_meanwhile(self) -> list[BoundField]:
        return [
            field
            for field in self
            if field.field.show_hidden_initial
            and _lines(self._shown(field)) != _lines(_as_text(field, field.initial))
        ]

    def _shown(self, field: BoundField) -> str:
        """Return the value that the page showed."""
        return str(self.data.get(field.html_initial_name, ""))

    def _describe(self, field: BoundField, edited: bool) -> str:
        text = messages.CHANGED_TO % {
            "label": field.label,
            "before": _readable(field, self._shown(field)),
            "after": _readable(field, _as_text(field, field.initial)),
        }
        return f"{text} {messages.SAVING_REPLACES}" if edited else text

    def _show_current(self, fields: list[BoundField], *, keep: set[str]) -> None:
        """Make the page that comes back show the row's values, except for the fields to keep."""
        data: Any = self.data
        data = data.copy()
        for field in fields:
            current = _as_text(field, field.initial)
            data[field.html_initial_name] = current
            if field.name in keep:
                continue
            if isinstance(field.field, forms.BooleanField) and not field.initial:
                data.pop(field.html_name, None)  # an unchecked box is not sent
            else:
                data[field.html_name] = current
        self.data = data


def _as_text(field: BoundField, value: Any) -> str:
    """Return a value as the hidden field contains it."""
    text = field.field.hidden_widget().format_value(field.field.prepare_value(value))
    return "" if text is None else str(text)


def _lines(text: str) -> str:
    """Return a text with the line ends that all browsers send."""
    return text.replace("\r\n", "\n")


def _readable(field: BoundField, text: str) -> str:
    if isinstance(field.field, forms.BooleanField):
        return _("Yes") if field.field.to_python(text) else _("No")
    return Truncator(text).chars(SHOWN_LENGTH) or str(messages.EMPTY_VALUE)
