"""The sample site as one that uses django-unfold."""

from project.settings import *  # noqa: F403 - the sample site as it is
from project.settings import INSTALLED_APPS as _INSTALLED_APPS

INSTALLED_APPS = ["unfold", *_INSTALLED_APPS]
