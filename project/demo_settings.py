"""The settings of `make demo`: the sample project with a small shop."""

from project.settings import *  # noqa: F403 - a variation of them
from project.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "project.shop"]
