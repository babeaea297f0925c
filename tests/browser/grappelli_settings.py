"""The settings of the sample site with django-grappelli installed."""

from project.settings import *  # noqa: F403 - the sample site's settings, unchanged
from project.settings import INSTALLED_APPS as _INSTALLED_APPS

INSTALLED_APPS = ["grappelli", *_INSTALLED_APPS]
ROOT_URLCONF = "tests.browser.grappelli_urls"
