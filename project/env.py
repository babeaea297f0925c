"""Reading the environment. An empty variable counts as one that is not set."""

import math
import os

from django.core.exceptions import ImproperlyConfigured

_YES = {"1", "true", "yes", "on"}
_NO = {"0", "false", "no", "off"}


def text(name: str, default: str = "") -> str:
    """The variable without the spaces and line ends that pasting leaves around it."""
    return os.environ.get(name, "").strip() or default


def flag(name: str, *, default: bool) -> bool:
    """The variable as yes or no.

    Raises:
        ImproperlyConfigured: it is set to neither.
    """
    value = text(name)
    if not value:
        return default
    if value.lower() in _YES | _NO:
        return value.lower() in _YES
    raise ImproperlyConfigured(
        f"{name} is {value!r}, which is neither yes nor no: set it to 1 or 0."
    )


def words(name: str) -> list[str]:
    """The variable as a list, its items separated by commas."""
    return [word.strip() for word in text(name).split(",") if word.strip()]


def number(value: str) -> int | float | str | None:
    """A number out of a text, and None out of "none".

    Anything else is handed back as it came, so that the system check of the setting can name
    it: a traceback out of the settings module would help nobody.
    """
    if value.lower() == "none":
        return None
    try:
        return int(value)
    except ValueError:
        pass
    try:
        as_float = float(value)
    except ValueError:
        return value
    return as_float if math.isfinite(as_float) else value


def positive(value: object, *, default: float) -> float:
    """The value if it is a number of seconds that a schedule can use, else the default."""
    return value if isinstance(value, int | float) and value > 0 else default
