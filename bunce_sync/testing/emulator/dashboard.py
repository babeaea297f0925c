"""The pages for people: the front page, and the forms of Bunce's dashboard."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from .api import PREFIX
from .application import Application
from .http import HTML, Request, Response, Routes, or_404
from .store import StoredCustomer, StoredSegment

_SHOWN_SEGMENTS = 200
_SHOWN_CUSTOMERS = 100
_CUSTOMER_COLUMNS = ("customer_id", "email", "first_name", "last_name", "phone_no")
_REFRESH = '<meta http-equiv="refresh" content="5">'


class DashboardPages:
    """Pages that need no key, no script and no cookie.

    They are not logged and do not count towards the rate limit:

    ``GET /``: the front page, which refreshes every 5 seconds;
    ``GET, POST /dashboard/add``: the form to add a segment, and adding it;
    ``GET, POST /dashboard/{id}``: the form to change a segment, and changing it;
    ``POST /dashboard/{id}/remove``: remove a segment;
    ``GET /dashboard/{id}/customers``: the customers in a segment.

    Any text is accepted, also a blank or a long one. An empty description is null.
    """

    def __init__(self, bunce: Application) -> None:
        self._bunce = bunce

    def routes(self) -> Routes:
        """Return the handlers of all pages."""
        return {
            "/": {"GET": self._front_page},
            "/favicon.ico": {"GET": lambda _: Response(204)},
            "/dashboard/add": {"GET": self._add_form, "POST": self._add},
            "/dashboard/{id}": {"GET": self._change_form, "POST": self._change},
            "/dashboard/{id}/remove": {"POST": self._remove},
            "/dashboard/{id}/customers": {"GET": self._customers},
        }

    # Forms

    def _add_form(self, _: Request) -> Response:
        form = _form("/dashboard/add", "", "", button="Add")
        return _page("Add a segment", f"<h1>Add a segment</h1>\n{form}")

    def _add(self, request: Request) -> Response:
        fields = request.form()
        self._bunce.add_segment(fields.get("name", ""), fields.get("description") or None)
        return _to_front_page()

    def _change_form(self, _: Request, segment_id: str) -> Response:
        with or_404():
            segment = self._bunce.segment(segment_id)
        path = f"/dashboard/{segment.id}"
        form = _form(path, segment.name, segment.description or "", button="Save")
        remove = _template("remove_form.html").substitute(path=f"{path}/remove")
        heading = f"<h1>Change a segment</h1>\n<p><code>{segment.id}</code></p>"
        return _page("Change a segment", f"{heading}\n{form}\n{remove}")

    def _change(self, request: Request, segment_id: str) -> Response:
        """Change the fields that the person changed.

        A browser does not return all texts as it got them (line breaks, control characters), so
        what it returns is compared with the hidden copy, which it treats in the same way.
        """
        fields = request.form()
        changes: dict[str, Any] = {
            name: fields[name]
            for name in ("name", "description")
            if name in fields and fields[name] != fields.get(f"old_{name}")
        }
        if changes.get("description") == "":
            changes["description"] = None
        with or_404():
            if changes:
                self._bunce.change_segment(segment_id, **changes)
        return _to_front_page()

    def _remove(self, _: Request, segment_id: str) -> Response:
        with or_404():
            self._bunce.remove_segment(segment_id)
        return _to_front_page()

    def _customers(self, _: Request, segment_id: str) -> Response:
        with or_404():
            segment = self._bunce.segment(segment_id)
            shown = self._bunce.newest_members(segment_id, _SHOWN_CUSTOMERS)
            totals = asdict(self._bunce.customer_totals(segment_id))
        heading = "Customers, newest first"
        if segment.customers_count > len(shown):
            heading = f"The newest {len(shown):,} of {segment.customers_count:,} customers"
        body = _template("customers.html").substitute(
            name=escape(segment.name),
            id=segment.id,
            customers=_number_of_customers(segment),
            **{name: f"{number:,}" for name, number in totals.items()},
            heading=heading,
            rows="".join(_customer_row(one) for one in shown)
            or '<tr><td colspan="5" class="soft">No customers yet.</td></tr>',
        )
        return _page(f"Customers of {escape(segment.name)}", body, _REFRESH)

    # Front page

    def _front_page(self, request: Request) -> Response:
        bunce = self._bunce
        options = bunce.options
        segments = bunce.newest(_SHOWN_SEGMENTS)
        total = len(bunce.segments)
        heading = "Segments, newest first"
        if total > len(segments):
            heading = f"The newest {len(segments):,} of {total:,} segments"
        key_hint = "Only the key given at the start is accepted."
        if options.key is None:
            key_hint = (
                "Any key that begins with <code>sk_test_</code> is accepted, "
                "for example <code>sk_test_local</code>."
            )
        body = _template("front_page.html").substitute(
            base_url=escape(f"http://{request.headers.get('host', '')}{PREFIX}"),
            key_hint=key_hint,
            segments=f"{total:,}",
            duplicates=f"{bunce.duplicate_count:,}",
            customers=f"{bunce.customer_count:,}",
            served=f"{bunce.served:,}",
            window=f"{options.rate_window:g}",
            recent=f"{bunce.recent(options.rate_window):,}",
            limit="no limit" if options.rate_limit is None else f"{options.rate_limit:,}",
            limited=f"{bunce.limited:,}",
            warnings="\n".join(f'<p class="warn">{escape(line)}</p>' for line in self._warnings()),
            heading=heading,
            rows="".join(_row(segment) for segment in segments)
            or '<tr><td colspan="7" class="soft">No segments yet.</td></tr>',
        )
        return _page(f"{total:,} segments", body, _REFRESH)

    def _warnings(self) -> list[str]:
        bunce = self._bunce
        lines = []
        if bunce.options.outage is not None:
            lines.append(f"Outage: every API request gets “{bunce.options.outage}”.")
        if faults := bunce.faults.in_force():
            listed = ", ".join(f"{name} {chance:.4g}" for name, chance in faults.items())
            lines.append(f"Faults and their probabilities: {listed}.")
        if bunce.scripted:
            lines.append(f"Faults scripted for the next calls: {bunce.scripted}.")
        if bunce.pending_writes:
            lines.append(f"Pending writes: {bunce.pending_writes}.")
        return lines + [
            f"{address} exceeded the rate limit and is blocked for {seconds} more seconds."
            for address, seconds in bunce.blocked.items()
        ]


def _customer_row(customer: StoredCustomer) -> str:
    values = (getattr(customer, name) for name in _CUSTOMER_COLUMNS)
    cells = "".join(f'<td class="text">{escape(value or "")}</td>' for value in values)
    return f"<tr>{cells}</tr>\n"


def _row(segment: StoredSegment) -> str:
    return _template("front_page_row.html").substitute(
        name=escape(segment.name),
        description=escape(segment.description or ""),
        type=escape(segment.type),
        customers=_number_of_customers(segment),
        created_at=segment.created_at.strftime("%Y-%m-%d %H:%M:%S"),
        id=segment.id,
    )


def _number_of_customers(segment: StoredSegment) -> str:
    return f"{segment.customers_count:,}{' (all)' if segment.all_customers else ''}"


def _form(path: str, name: str, description: str, *, button: str) -> str:
    return _template("segment_form.html").substitute(
        path=path, name=escape(name), description=escape(description), button=button
    )


def _page(title: str, body: str, head: str = "") -> Response:
    page = _template("page.html").substitute(title=title, head=head, body=body)
    return Response(200, page.encode("utf-8", "replace"), HTML)


def _to_front_page() -> Response:
    return Response(303, headers=(("Location", "/"),))


@cache
def _template(name: str) -> Template:
    return Template(Path(__file__).with_name(name).read_text("utf-8"))
