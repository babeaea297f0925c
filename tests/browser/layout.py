"""How a page is laid out."""

from playwright.sync_api import Page

#: Parts of the page that must not cover each other: controls, labels and texts.
PARTS = (
    ":is(.bunce-live, .bunce-columns, .bunce-calls, .bunce-page)"
    " :is(label, input:not([type=hidden]), textarea, button, dt, dd, h2, p, summary, .readonly,"
    " .help)"
)
OVERLAPPING = """
(parts) => {
  const boxes = [...document.querySelectorAll(parts)]
    .map((part) => [part, part.getBoundingClientRect()])
    .filter(([part, box]) => box.width > 1 && box.height > 1 && part.checkVisibility());
  const name = (part) => `${part.tagName} ${part.id || part.textContent.trim().slice(0, 40)}`;
  const found = [];
  for (const [one, a] of boxes) {
    if (a.left < -1 || a.right > innerWidth + 1) found.push(`${name(one)} leaves the window`);
    for (const [other, b] of boxes) {
      if (one === other || one.contains(other) || other.contains(one)) continue;
      const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (width > 2 && height > 2) found.push(`${name(one)} covers ${name(other)}`);
    }
  }
  return found;
}
"""


def overlapping(page: Page) -> list[str]:
    """Return the parts of a change page that cover each other or do not fit in the window."""
    found: list[str] = page.evaluate(OVERLAPPING, PARTS)
    return found
