"""The settings of the app: the dict ``BUNCE_SYNC``, read at each access.

Nothing is cached at import, so ``override_settings`` works, and a project may fill the dict late.
An invalid value raises ``ConfigurationError`` when it is read; the system checks (``checks.py``)
report it at startup.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from django.conf import settings as django_settings

from bunce_sync.exceptions import ConfigurationError
from bunce_sync.fingerprint import MAX_TEXT_LENGTH

T = TypeVar("T")

#: From Bunce's developer documentation, "Introduction".
BASE_URLS = {
    "live": "https://api.bunce.so/v1",
    "sandbox": "https://sandbox.api.bunce.so/v1",
}

#: The environments that keys belong to, by how they begin.
KEY_KINDS = {"sk_live_": "live", "sk_test_": "sandbox"}

#: The longest time in seconds; larger values are mistakes and could overflow dates.
MAX_SECONDS = 86_400


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("must be a number of seconds")
    if not 0 < value <= MAX_SECONDS:  # False for NaN, too
        raise ValueError("must be a number of seconds greater than zero, and at most a day")
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("must be a whole number")
    if value <= 0:
        raise ValueError("must be greater than zero")
    return value


def _count_or_none(value: Any) -> int | None:
    return None if value is None else _count(value)


def _interval_or_none(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("must be a number of seconds, or None")
    if not 60 <= value <= 31 * MAX_SECONDS:
        raise ValueError("must be from 60 seconds to 31 days, or None")
    return float(value)


def _page_size(value: Any) -> int:
    if _count(value) > 1000:
        raise ValueError("must be at most 1000")
    return int(value)


def _text_length(value: Any) -> int:
    if _count(value) > MAX_TEXT_LENGTH:
        raise ValueError(f"must be at most {MAX_TEXT_LENGTH}")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("must be a string")
    return value.strip()


def _key(value: Any) -> str:
    text = _text(value)
    if not all("!" <= character <= "~" for character in text):
        raise ValueError("must not contain spaces, line breaks or non-ASCII characters")
    return text


def _environment(value: Any) -> str:
    if not isinstance(value, str) or value not in BASE_URLS:
        raise ValueError('must be "live" or "sandbox"')
    return str(value)


def _base_url(value: Any) -> str:
    text = _text(value).rstrip("/")
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # its message quotes the URL, which may contain a password
        usable = False
    if not usable:
        raise ValueError("must be a URL such as https://api.bunce.so/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must be a URL without user, password, query or fragment")
    return text


class Setting(Generic[T]):
    """A key of ``BUNCE_SYNC``.

    Args:
        default: the value if the key is not set.
        parse: returns the typed value, or raises ``TypeError`` or ``ValueError`` with a message
            that says what the value must be.
        example: a valid value for the hint of the system check; by default the default.
    """

    def __init__(self, default: T, parse: Callable[[Any], T], *, example: Any = None) -> None:
        self.default = default
        self.example = default if example is None else example
        self.parse = parse
        self.key = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.key = name

    def __get__(self, instance: object, owner: type) -> T:
        try:
            return self.parse(raw_settings().get(self.key, self.default))
        except (TypeError, ValueError) as error:
            # Without the value, which may be an API key under the wrong setting.
            raise ConfigurationError(f"BUNCE_SYNC[{self.key!r}] {error}.") from None


def raw_settings() -> Mapping[str, Any]:
    """Return the project's ``BUNCE_SYNC`` dict, unparsed; empty if it is not set.

    Raises:
        ConfigurationError: it is not a dict.
    """
    value = getattr(django_settings, "BUNCE_SYNC", {})
    if not isinstance(value, Mapping):
        raise ConfigurationError("BUNCE_SYNC must be a dict.")
    return value


class Conf:
    """The parsed settings, e.g. ``conf.READ_TIMEOUT``. Times are in seconds.

    Each access raises ``ConfigurationError`` if the value is invalid.
    """

    API_KEY = Setting("", _key, example="sk_test_...")
    ENV = Setting("live", _environment)
    BASE_URL = Setting("", _base_url, example=BASE_URLS["sandbox"])
    CONNECT_TIMEOUT = Setting(3.0, _seconds)
    READ_TIMEOUT = Setting(20.0, _seconds)
    LEASE = Setting(90.0, _seconds)
    GRACE = Setting(120.0, _seconds)
    RATE_LIMIT = Setting[int | None](500, _count_or_none)
    RATE_WINDOW = Setting(60.0, _seconds)
    SWEEP_INTERVAL = Setting(10.0, _seconds)
    PAGE_SIZE = Setting(100, _page_size)
    CUSTOMERS_PER_REQUEST = Setting(100, _page_size)
    QUEUE = Setting("", _text, example="bunce")
    LEDGER_DAYS = Setting(30, _count)
    DESCRIPTION_MAX_LENGTH = Setting(10_000, _text_length)
    IMPORT_INTERVAL = Setting[float | None](None, _interval_or_none, example=3600)

    def check(self) -> None:
        """Read every setting, so that an invalid one raises before any work starts.

        Raises:
            ConfigurationError: names the first invalid setting.
        """
        for key in SETTINGS:
            getattr(self, key)

    def usable(self, key: str) -> Any:
        """Return a setting, or its default if its value is invalid."""
        try:
            return getattr(self, key)
        except ConfigurationError:
            return SETTINGS[key].default

    @property
    def base_url(self) -> str:
        """The base URL: ``BASE_URL``, or the one that belongs to ``ENV``."""
        return self.BASE_URL or BASE_URLS[self.ENV]

    @property
    def environment(self) -> str:
        """Where segments live: scheme, host and port of Bunce, and ``live`` or ``sandbox``.

        Data that was read from one environment is not valid in another. Invalid settings count as
        their defaults: nothing is sent with them.
        """
        env = self.usable("ENV")
        parts = urlsplit(self.usable("BASE_URL") or BASE_URLS[env])
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        key = self.usable("API_KEY")
        kind = next((kind for sign, kind in KEY_KINDS.items() if key.startswith(sign)), env)
        return f"{parts.scheme}://{parts.hostname}:{port}"[:240] + f" {kind}"  # columns have 255

    @property
    def key_digest(self) -> str:
        """A digest of the API key, which is long and random and cannot be guessed from it."""
        return hashlib.blake2b(self.API_KEY.encode(), digest_size=16).hexdigest()

    @property
    def request_deadline(self) -> float:
        """The seconds a request may take, from connecting to the last byte of the response."""
        return self.CONNECT_TIMEOUT + self.READ_TIMEOUT


SETTINGS: Mapping[str, Setting[Any]] = {
    key: value for key, value in vars(Conf).items() if isinstance(value, Setting)
}

conf = Conf()
