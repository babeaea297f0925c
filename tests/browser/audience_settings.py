"""The settings of the browser tests, with an app that has an audience."""

from tests.browser.settings import *  # noqa: F403 - a variation of them
from tests.browser.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.browser.audience_site"]
