"""The pages that import and export files, from django-import-export, and what differs here.

An import shows what it would do before it does it, stores all rows or none, and stores nothing if
a segment was changed after the preview. Only totals and the first rows are shown, so that a file
of thousands of rows has a usable preview.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import Any, Final

from django.contrib import admin
from django.contrib import messages as flash
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import flatten_fieldsets
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import connections, transaction
from django.db.models import QuerySet
from django.http import FileResponse, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import translation
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST
from import_export.admin import ImportExportMixin
from import_export.signals import post_export

from bunce_sync import services
from bunce_sync.admin.actions import MAX_SELECTED, show_reason_to_wait
from bunce_sync.admin.base import ModelAdmin
from bunce_sync.admin.change_list import UNUSABLE
from bunce_sync.admin.files.formats import FORMATS, FileError, grouped
from bunce_sync.admin.files.forms import ConfirmForm, ExportFileForm, ImportFileForm, signed
from bunce_sync.admin.files.preview import preview
from bunce_sync.admin.files.resource import FileResult, SegmentResource, as_key, editable_fields
from bunce_sync.choices import Operation
from bunce_sync.models import Segment

#: Log entries that one query inserts.
LOG_BATCH: Final = 500
#: The field of the export form with the keys of selected segments, separated by commas.
SELECTED: Final = "selected"
#: What a preview's form says of its file.
SIGNED: Final = ("file", "format", "resource", "original_file_name")

IMPORT_TITLE: Final = gettext_lazy("Import %(name)s from a file")
EXPORT_TITLE: Final = gettext_lazy("Export %(name)s")
CHANGED_MEANWHILE: Final = gettext_lazy(
    "Nothing was imported: segments were changed since the preview. Check the new preview."
)
IMPORTED_BEFORE: Final = gettext_lazy("Nothing was imported: this file was imported before.")
NOT_IMPORTED: Final = gettext_lazy("Nothing was imported.")
FILE_GONE: Final = gettext_lazy(
    "Nothing was imported: the file of this preview was imported before, or is no longer stored."
    " Choose the file again."
)


class FilesMixin(ImportExportMixin, ModelAdmin):
    """Import and export of segments."""

    actions: tuple[str, ...] = ("export_selected",)
    #: Not from the library's settings: formats of others read and write whole files in memory.
    import_formats = export_formats = FORMATS
    import_form_class = ImportFileForm
    confirm_form_class = ConfirmForm
    #: Not with a choice of columns: that page has inline code, which a strict policy forbids.
    export_form_class = ExportFileForm
    import_template_name = "admin/bunce_sync/segment/import.html"
    export_template_name = "admin/bunce_sync/segment/export.html"
    #: Of django-import-export; our template of the list has its links.
    ie_base_change_list_template = None

    def init_change_list_template(self) -> None:
        """Keep the template of the list."""

    # Permissions

    def has_import_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may import: add and change, and the library's setting."""
        return (
            self.has_add_permission(request)
            and self.has_change_permission(request)
            and super().has_import_permission(request)
        )

    def has_export_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may export: view, and the library's setting."""
        may_view = self.has_view_or_change_permission(request)
        return may_view and super().has_export_permission(request)

    # What is read and written

    def get_resource_classes(self, request: HttpRequest) -> Sequence[type[Any]]:
        if self.resource_classes or self.resource_class:
            classes: Sequence[type[Any]] = super().get_resource_classes(request)
            return classes
        return [SegmentResource.for_model(self.model)]

    def get_import_resource_kwargs(self, request: HttpRequest, **kwargs: Any) -> dict[str, Any]:
        return {
            **super().get_import_resource_kwargs(request, **kwargs),
            "rows": self.get_queryset(request),
            "may_change": lambda segment: self.has_change_permission(request, segment),
            "readonly": self._not_importable(request),
        }

    def _not_importable(self, request: HttpRequest) -> set[str]:
        """Return the fields that the form does not offer for editing either."""
        names = {field.name for field in editable_fields(self.model)}
        hidden = {str(name) for name in self.get_readonly_fields(request)}
        if self.fields or self.fieldsets:
            hidden |= names - {*flatten_fieldsets(self.get_fieldsets(request))}
        return names & hidden

    # Import

    def import_action(self, request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
        """Show the form and, for a file, what its import would do."""
        response: HttpResponseBase = super().import_action(request, **kwargs)
        if not isinstance(response, TemplateResponse):
            return response  # a site may have switched the preview off
        context: dict[str, Any] = response.context_data or {}
        context |= self._page(IMPORT_TITLE)
        result: FileResult | None = context.pop("result", None)
        if result is not None:
            context["preview"] = preview(result, self._segment_url)
        file: Any = request.FILES.get("import_file")
        stored = getattr(file, "tmp_storage_name", None)
        if stored is None:
            return response
        form = context["form"]
        input_format = form.cleaned_data.get("format", "")
        if result is not None and context.pop("confirm_form", None) and result.rows:
            context["confirm_form"] = self._confirm_form(
                request,
                result,
                file=stored,
                format=input_format,
                resource=form.cleaned_data.get("resource", ""),
                original_file_name=file.name,
            )
        else:  # it will not be imported
            _remove(self._stored_file(input_format, stored))
        return response

    def add_data_read_fail_error_to_form(self, form: Any, e: Exception) -> None:
        text = _(
            "The file cannot be read. Check that it is complete, and that the format is right."
        )
        form.add_error("import_file", str(e) if isinstance(e, FileError) else text)

    @method_decorator(require_POST)
    def process_import(self, request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
        """Import a file as its preview showed it."""
        if not self.has_import_permission(request):
            raise PermissionDenied
        form = self.create_confirm_form(request)
        if not form.is_valid():
            return self._choose_again(request, next(iter(form.errors.values()))[0])
        confirmed = form.cleaned_data
        stored = self._stored_file(confirmed["format"], confirmed["file"])
        try:
            data = stored.read()
        except OSError:
            data = None
        if data is None:
            return self._choose_again(request, FILE_GONE)
        input_format = self._import_format(confirmed["format"])
        dataset = input_format.create_dataset(data)
        try:
            result = self.process_dataset(dataset, form, request, **kwargs)
        except services.AlreadySaved:
            return self._choose_again(request, IMPORTED_BEFORE)
        except services.SegmentsChanged:
            flash.warning(request, CHANGED_MEANWHILE)
            return self._preview_again(request, form, dataset)
        _remove(stored)
        if result.invalid or result.base_errors:
            return self._choose_again(request, _first_problem(result))
        return self.process_result(result, request)  # type: ignore[no-any-return]

    def get_import_data_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        form = kwargs.get("form")
        values: dict[str, Any] = super().get_import_data_kwargs(**kwargs)
        if isinstance(form, ConfirmForm):
            confirmed = form.cleaned_data
            values |= {"shown": confirmed["shown"], "once": f"file {confirmed['file']}"}
        return values

    def generate_log_entries(self, result: FileResult, request: HttpRequest) -> None:
        """Record each new and each changed segment in the admin's log."""
        if self.get_skip_admin_log():
            return
        user: Any = request.user.pk
        entries: dict[tuple[int, str], list[Segment]] = {}
        with translation.override(None):  # readers of the log may use another language
            for row in result.rows:
                flag = ADDITION if row.is_new() else CHANGE
                names = "" if row.is_new() else ", ".join(row.changes)
                entries.setdefault((flag, names), []).append(row.instance)
            for (flag, names), segments in entries.items():
                text = _("Imported from a file.")
                if names:
                    text = _("Imported from a file: %(names)s.") % {"names": names}
                for start in range(0, len(segments), LOG_BATCH):
                    batch = segments[start : start + LOG_BATCH]
                    LogEntry.objects.log_actions(user, batch, flag, text)

    def add_success_message(self, result: FileResult, request: HttpRequest) -> None:
        """Show the totals, and what keeps the segments waiting."""
        text = _("Imported: %(new)s new, %(changed)s changed, %(unchanged)s unchanged.") % {
            "new": grouped(len(result.new)),
            "changed": grouped(len(result.changed)),
            "unchanged": grouped(result.totals["skip"]),
        }
        flash.success(request, text)
        show_reason_to_wait(request, Operation.CREATE, Operation.UPDATE)

    def _page(self, title: Any) -> dict[str, Any]:
        """Return what the templates of all pages need."""
        return {
            "title": str(title) % {"name": self.opts.verbose_name_plural},
            "breadcrumb_style": self.breadcrumb_style,
        }

    def _segment_url(self, segment: Segment) -> str:
        return self.url("change", segment.pk)

    def _import_format(self, index: str) -> Any:
        return self.get_import_formats()[int(index)]()

    def _stored_file(self, index: str, name: str) -> Any:
        """Return a file in the library's storage between preview and import."""
        storage = self.get_tmp_storage_class()
        mode = self._import_format(index).get_read_mode()
        return storage(name=name, read_mode=mode, **self.get_tmp_storage_class_kwargs())

    def _confirm_form(self, request: HttpRequest, result: FileResult, **values: str) -> Any:
        form = self.get_confirm_form_class(request)
        return form(initial={"preview": signed(**values, shown=result.digest)})

    def _choose_again(self, request: HttpRequest, message: Any) -> HttpResponse:
        flash.error(request, str(message))
        return redirect(self.url("import"))

    def _preview_again(self, request: HttpRequest, form: Any, dataset: Any) -> HttpResponse:
        """Show what a file would do by now."""
        kwargs = self.get_import_resource_kwargs(request, form=form)
        resource = self.choose_import_resource_class(form, request)(**kwargs)
        result = resource.import_data(dataset, dry_run=True, user=request.user)
        values = {name: form.cleaned_data[name] for name in SIGNED}
        if result.invalid or result.base_errors:
            return self._choose_again(request, _first_problem(result))
        context = {
            **self.get_import_context_data(),
            **self.admin_site.each_context(request),
            **self._page(IMPORT_TITLE),
            "opts": self.opts,
            "media": self.media,
            "preview": preview(result, self._segment_url),
            "confirm_form": self._confirm_form(request, result, **values),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, [self.import_template_name], context)

    # Export

    def export_action(self, request: HttpRequest) -> HttpResponseBase:
        """Show the form, or return the file."""
        if not self.has_export_permission(request):
            raise PermissionDenied
        try:
            count = self._count(request)
        except (IncorrectLookupParameters, *UNUSABLE):
            return redirect(f"{self.url('changelist')}?{ERROR_FLAG}=1")
        response: HttpResponseBase = super().export_action(request)
        if isinstance(response, TemplateResponse) and response.context_data is not None:
            response.context_data |= {"count": count, "count_text": grouped(count)}
        return response

    def _count(self, request: HttpRequest) -> int:
        """Return how many segments would be exported: the first query with the URL's values."""
        rows = self.get_export_queryset(request)
        within = connections[rows.db].in_atomic_block
        with transaction.atomic(using=rows.db) if within else nullcontext():
            return rows.count()

    def get_export_queryset(self, request: HttpRequest) -> QuerySet[Segment]:
        """Return the rows of the list with its filters, or of those the selected ones.

        Raises:
            BadRequest: the selection is not one that the list sends.
        """
        rows: QuerySet[Segment] = super().get_export_queryset(request)
        selected = request.POST.get(SELECTED, "")
        if not selected:
            return rows
        texts = selected.split(",")
        keys = [key for text in texts if (key := as_key(text)) is not None]
        if len(keys) < len(texts) or len(keys) > MAX_SELECTED:
            raise BadRequest("The selection contains an impossible key.")
        return rows.filter(id__in=keys)

    @admin.action(description=gettext_lazy("Export selected segments"), permissions=["export"])
    def export_selected(self, request: HttpRequest, queryset: QuerySet[Segment]) -> HttpResponse:
        """Show the form that exports the selection."""
        keys = [] if request.POST.get("select_across") == "1" else queryset.values_list("id")
        form = self.get_export_form_class()(
            self.get_export_formats(),
            self.get_export_resource_classes(request),
            initial={SELECTED: ",".join(str(key) for (key,) in keys)},
        )
        context = self.init_request_context_data(request, form)
        # With the list's filters, which decide what is exported if all of its rows are selected.
        context["export_url"] = f"{self.url('export')}?{request.GET.urlencode()}"
        count = queryset.count()
        context |= {"count": count, "count_text": grouped(count)}
        request.current_app = self.admin_site.name
        return TemplateResponse(request, [self.export_template_name], context)

    def init_request_context_data(self, request: HttpRequest, form: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().init_request_context_data(request, form)
        classes = self.get_export_resource_classes(request)
        resources = [one(**self.get_export_resource_kwargs(request)) for one in classes]
        columns = [(one.get_display_name(), one.get_export_headers()) for one in resources]
        return {**context, **self._page(EXPORT_TITLE), "fields_list": columns}

    def _do_file_export(
        self, file_format: Any, request: HttpRequest, queryset: Any, export_form: Any = None
    ) -> HttpResponseBase:
        """Return the file, which is written row by row to disk, not to memory.

        Raises:
            ValueError: the format cannot hold a value; the library shows the message.
        """
        resource_class = self.choose_export_resource_class(export_form, request)
        resource = resource_class(**self.get_export_resource_kwargs(request))
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the response closes it
        try:
            rows = resource.export_rows(queryset)
            file_format.write(file, resource.get_export_headers(), rows)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        post_export.send(sender=None, model=self.model)
        return FileResponse(
            file,
            as_attachment=True,
            filename=self.get_export_filename(request, queryset, file_format),
            content_type=file_format.get_content_type(),
        )


def _remove(stored: Any) -> None:
    """Remove a file from the library's storage, where something else may have removed it."""
    with suppress(OSError):
        stored.remove()


def _first_problem(result: FileResult) -> str:
    """Return why a file that had a valid preview cannot be imported any more."""
    shown = preview(result, str)
    problems = shown.get("problems") or shown["refused"][0]["messages"]
    return " ".join([str(NOT_IMPORTED), *problems])
