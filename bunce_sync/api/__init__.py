"""The REST API. To use it, add one line to the site's URLs::

    path("api/", include("bunce_sync.api.urls"))

It needs the extra ``django-bunce-sync[api]``. Nothing else in the app imports this package.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

#: The packages of the extra, without which the API cannot be imported.
PACKAGES: Final = ("rest_framework", "drf_spectacular", "django_filters")


def _check() -> None:
    """Check what the modules of this package need before one of them is imported.

    Raises:
        ImproperlyConfigured: a package or an app is missing.
    """
    missing = [name for name in PACKAGES if not _is_available(name)]
    if missing:
        raise ImproperlyConfigured(
            "The REST API of bunce_sync needs packages that are not installed:"
            f' {", ".join(missing)}. Run: pip install "django-bunce-sync[api]"'
        )
    if not apps.is_installed("bunce_sync"):
        raise ImproperlyConfigured(
            'The REST API of bunce_sync needs its app: add "bunce_sync" to INSTALLED_APPS.'
        )


def _is_available(package: str) -> bool:
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise  # a package that this one needs
        return False
    return True


_check()
