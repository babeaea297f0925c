"""The settings for mypy, which knows models of installed apps only."""

from tests.settings import *  # noqa: F403 - a variation of them
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "project.shop"]
