"""The front page: what "Bunce" holds and does, for a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from html import escape

from .state import StoredSegment

SHOWN = 200
_TIME = "%Y-%m-%d %H:%M:%S"

_STYLE = """
:root { color-scheme: light dark;
  --ground: light-dark(#fafaf8, #16181c); --card: light-dark(#fff, #1e2127);
  --text: light-dark(#1d2127, #e4e6ea); --soft: light-dark(#5b6470, #9aa3b0);
  --line: light-dark(#e0e2e6, #32363e); --accent: light-dark(#2457c5, #8fb4ff);
  --warn: light-dark(#9a3412, #fdba74); --warn-ground: light-dark(#fff4e8, #3a2a1a); }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem 1.25rem 3rem; color: var(--text);
  background: var(--ground); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0; }
h2 { font-size: 1.05rem; margin: 2rem 0 .6rem; }
p { margin: .35rem 0; }
code { font: .92em ui-monospace, monospace; overflow-wrap: anywhere; }
.soft { color: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr));
  gap: .75rem; margin: 1.25rem 0 0; }
.figures div { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: .7rem .9rem; }
.figures dt { color: var(--soft); font-size: .85rem; }
.figures dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.warn { background: var(--warn-ground); color: var(--warn); border-radius: 8px;
  padding: .6rem .9rem; margin-top: .9rem; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .5rem .8rem;
  border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-weight: 600; font-size: .85rem;
  white-space: nowrap; }
td.text { min-width: 10rem; max-width: 24rem; overflow-wrap: anywhere; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
td.tight { white-space: nowrap; }
.empty { padding: 1.5rem .9rem; color: var(--soft); }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the front page tells besides the segments."""

    base_url: str
    key: str | None
    segments: int
    customers: int
    twins: int
    served: int
    recent: int
    window: float
    limit: int | None
    limited: int
    blocked: dict[str, int]
    faults: dict[str, float]
    scripted: int
    outage: str | None
    unsettled: int


def front_page(summary: Summary, newest: list[StoredSegment]) -> bytes:
    """Return the page as UTF-8.

    Args:
        newest: the segments to list, newest first.
    """
    limit = "no limit" if summary.limit is None else f"{summary.limit:,}"
    figures = {
        "Segments": f"{summary.segments:,}",
        "Twins": f"{summary.twins:,}",
        "Customers": f"{summary.customers:,}",
        "Requests served": f"{summary.served:,}",
        f"In the last {summary.window:g} s": f"{summary.recent:,} / {limit}",
        "Refused by the limit": f"{summary.limited:,}",
    }
    boxes = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in figures.items()
    )
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="5">
<title>Local Bunce: {summary.segments:,} segments</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Local Bunce</h1>
<p class="soft">An emulator of the Bunce API, in memory: nothing here leaves this machine, and all
of it is gone when the emulator stops. This page refreshes itself every 5 seconds.</p>
<p>Address for a client: <code>{escape(summary.base_url)}</code>. {_key_hint(summary.key)}</p>
<dl class="figures">{boxes}</dl>
{_warnings(summary)}
<h2>{_heading(summary.segments, len(newest))}</h2>
<div class="scroll">{_table(newest)}</div>
</body>
</html>
"""
    return page.encode("utf-8", "replace")


def _key_hint(key: str | None) -> str:
    if key is not None:
        return "Only the key given at its start is accepted."
    return (
        "Any key that begins with <code>sk_test_</code> is accepted, "
        "for instance <code>sk_test_local</code>."
    )


def _heading(total: int, shown: int) -> str:
    if total > shown:
        return f"The newest {shown:,} of {total:,} segments"
    return "Segments, newest first"


def _warnings(summary: Summary) -> str:
    lines = []
    if summary.outage is not None:
        lines.append(f"Outage in force: every API request meets “{summary.outage}”.")
    if summary.faults:
        listed = ", ".join(f"{name} {chance:.4g}" for name, chance in summary.faults.items())
        lines.append(f"Faults in force, with their probabilities: {listed}.")
    if summary.scripted:
        lines.append(f"Faults scripted for the next calls: {summary.scripted}.")
    if summary.unsettled:
        lines.append(f"Late stores still to come: {summary.unsettled}.")
    lines += [
        f"{address} went past the limit and is shut out for {seconds} more seconds."
        for address, seconds in summary.blocked.items()
    ]
    return "".join(f'<p class="warn">{escape(line)}</p>' for line in lines)


def _table(segments: list[StoredSegment]) -> str:
    if not segments:
        return '<p class="empty">No segments yet. Create one and it appears here.</p>'
    rows = "".join(_row(segment) for segment in segments)
    return (
        "<table><thead><tr><th>Name</th><th>Description</th><th>Type</th><th>Customers</th>"
        f"<th>Created at (UTC)</th><th>Id</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _row(segment: StoredSegment) -> str:
    everyone = " (all)" if segment.all_customers else ""
    return (
        f'<tr><td class="text">{escape(segment.name)}</td>'
        f'<td class="text">{escape(segment.description or "")}</td>'
        f"<td>{escape(segment.type)}</td>"
        f'<td class="number">{segment.customers_count:,}{everyone}</td>'
        f'<td class="tight">{_when(segment.created_at)}</td>'
        f'<td class="tight"><code>{segment.id}</code></td></tr>'
    )


def _when(moment: datetime) -> str:
    return moment.strftime(_TIME)
