"""The admin's pages that import and export files, as a person uses them."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Sequence
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from .admin_people import LIST

FORMATS = ("csv", "xlsx", "json")
Rows = Sequence[Sequence[Any]]


def csv_bytes(rows: Rows) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def preview(client: Client, data: bytes | Rows, kind: str = "csv", base: str = LIST) -> Any:
    """Choose a file, and return the response."""
    content = data if isinstance(data, bytes) else csv_bytes(data)
    file = SimpleUploadedFile(f"segments.{kind}", content)
    response = client.post(
        f"{base}import/", {"format": FORMATS.index(kind), "import_file": file, "resource": "0"}
    )
    assert response.status_code == 200
    return response


def confirm(client: Client, previewed: Any, base: str = LIST) -> Any:
    """Confirm a preview, and return the response that follows."""
    content = previewed.content.decode()
    [signed] = re.findall(r'name="preview" value="([^"]+)"', content)
    return client.post(f"{base}process_import/", {"preview": html.unescape(signed)}, follow=True)


def can_confirm(previewed: Any) -> bool:
    return 'name="preview"' in previewed.content.decode()


def totals(previewed: Any) -> dict[str, str]:
    return {one["name"]: one["count"] for one in previewed.context["preview"]["totals"]}


def errors(previewed: Any) -> dict[str, list[str]]:
    """Return the errors of a preview by row, and that it cannot be confirmed."""
    assert not can_confirm(previewed)
    return {row["number"]: row["messages"] for row in previewed.context["preview"]["refused"]}


def form_error(previewed: Any) -> str:
    """Return why a file could not be read."""
    [message] = previewed.context["form"].errors["import_file"]
    return str(message)


def flashed(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def import_rows(client: Client, data: bytes | Rows, kind: str = "csv", base: str = LIST) -> str:
    """Import a file, and return the message with the totals."""
    return flashed(confirm(client, preview(client, data, kind, base), base))[0]


def export(client: Client, kind: str = "csv", query: str = "", base: str = LIST) -> bytes:
    response: Any = client.post(f"{base}export/{query}", {"format": FORMATS.index(kind)})
    assert response.status_code == 200
    assert response.headers["Content-Disposition"].endswith(f'.{kind}"')
    content: bytes = b"".join(response.streaming_content)
    return content


def exported(client: Client, query: str = "", base: str = LIST) -> list[dict[str, Any]]:
    """Return the exported segments."""
    found: list[dict[str, Any]] = json.loads(export(client, "json", query, base))
    return found
