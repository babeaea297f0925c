"""The settings of the sample site, with the linter of migrations."""

from project.settings import *  # noqa: F403 - the settings of the site, unchanged
from project.settings import INSTALLED_APPS as SITE_APPS

INSTALLED_APPS = [*SITE_APPS, "django_migration_linter"]
