"""The sample site with each request in one transaction."""

from project.settings import *  # noqa: F403 - the sample site's settings, unchanged
from project.settings import DATABASES as _DATABASES

DATABASES = {"default": {**_DATABASES["default"], "ATOMIC_REQUESTS": True}}
