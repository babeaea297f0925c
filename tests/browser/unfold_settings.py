"""The settings of the sample site with django-unfold installed."""

from project.settings import *  # noqa: F403 - the sample site's settings, unchanged
from project.settings import INSTALLED_APPS as _INSTALLED_APPS

INSTALLED_APPS = ["unfold", "unfold.contrib.import_export", *_INSTALLED_APPS]
