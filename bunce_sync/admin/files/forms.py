"""The forms of an import: the file, then the confirmation of its preview."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.apps import apps
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext as _

from bunce_sync.admin.files.formats import MAX_BYTES, MAX_ROWS, grouped

if apps.is_installed("unfold.contrib.import_export"):
    from unfold.contrib.import_export.forms import ExportForm, ImportForm
else:
    from import_export.forms import ExportForm, ImportForm

#: Seconds for which a preview can be confirmed; shorter than ``IdempotencyKey.KEPT_FOR``.
CONFIRM_SECONDS: Final = 12 * 60 * 60
_SALT: Final = "bunce_sync.admin.files"


class ImportFileForm(ImportForm):
    """The choice of a file."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        file = self.fields["import_file"]
        file.help_text = _("At most %(rows)s rows and %(megabytes)d MB.") % {
            "rows": grouped(MAX_ROWS),
            "megabytes": MAX_BYTES // 2**20,
        }
        file.widget.attrs["accept"] = ",".join(
            f".{title}" for value, title in self.fields["format"].choices if value
        )

    def clean_import_file(self) -> UploadedFile[Any]:
        """Return the file.

        Raises:
            ValidationError: it is too large.
        """
        file: UploadedFile[Any] = self.cleaned_data["import_file"]
        if file.size is None or file.size > MAX_BYTES:
            raise ValidationError(
                _("The file is larger than %(max)d MB.") % {"max": MAX_BYTES // 2**20}
            )
        return file


class ExportFileForm(ExportForm):
    """The choice of a format."""

    #: The keys of the segments that were selected in the list; empty for all of its rows.
    selected = forms.CharField(required=False, widget=forms.HiddenInput)


class ConfirmForm(forms.Form):
    """The confirmation of a preview: which file it is of, and what it showed, signed."""

    preview = forms.CharField(widget=forms.HiddenInput)

    def clean(self) -> dict[str, Any]:
        """Return the values that were signed.

        Raises:
            ValidationError: the page is too old, or the values are not those of a preview.
        """
        cleaned: dict[str, Any] = super().clean() or {}
        try:
            values: dict[str, Any] = signing.loads(
                cleaned.get("preview", ""), salt=_SALT, max_age=CONFIRM_SECONDS
            )
        except signing.BadSignature as error:
            raise ValidationError(_("This preview has expired. Choose the file again.")) from error
        return cleaned | values


def signed(**values: Any) -> str:
    """Return the value of ``ConfirmForm.preview``."""
    return signing.dumps(values, salt=_SALT)
