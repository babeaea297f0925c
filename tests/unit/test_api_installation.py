"""The REST API says what is missing when it is included in a site that lacks something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.site import ROOT

SETTINGS = """
import sys

for name in {blocked}:
    sys.modules[name] = None  # importing it fails as if it were not installed

SECRET_KEY = "only-for-this-test"
USE_TZ = True
ROOT_URLCONF = "site_urls"
STATIC_URL = "static/"
ALLOWED_HOSTS = ["*"]
BUNCE_SYNC = {{"API_KEY": "sk_test_x", "ENV": "sandbox"}}
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", {apps}]
DATABASES = {{"default": {{
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": ":memory:",
    "OPTIONS": {{"transaction_mode": "IMMEDIATE"}},
}}}}
TEMPLATES = [{{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}}]
"""
URLS = """
from django.urls import include, path

urlpatterns = [path("api/", include("bunce_sync.api.urls"))]
"""
READ_DOCS = """
import django

django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from rest_framework.test import APIClient

call_command("migrate", verbosity=0)
client = APIClient()
client.force_authenticate(User.objects.create_superuser("x"))
for path in ("segments/", "status/", "schema/", "docs/"):
    response = client.get("/api/" + path)
    assert response.status_code == 200, (path, response.content)
print(response.content.decode())
"""


def run(folder: Path, *command: str, apps: str, blocked: tuple[str, ...] = ()) -> tuple[int, str]:
    """Run a command of a site with these settings; return its exit code and output."""
    (folder / "site_settings.py").write_text(SETTINGS.format(blocked=blocked, apps=apps))
    (folder / "site_urls.py").write_text(URLS)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
            "DJANGO_SETTINGS_MODULE": "site_settings",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["rest_framework", "drf_spectacular", "django_filters"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path: Path, package: str
) -> None:
    code, output = run(
        tmp_path, "-m", "django", "check", apps='"bunce_sync"', blocked=(package, f"{package}.x")
    )
    assert code != 0
    assert "ImproperlyConfigured: The REST API of bunce_sync needs packages that are not" in output
    assert f'{package}. Run: pip install "django-bunce-sync[api]"' in output


def test_all_missing_packages_are_named_at_once(tmp_path: Path) -> None:
    packages = ("rest_framework", "drf_spectacular", "django_filters")
    _code, output = run(tmp_path, "-m", "django", "check", apps='"bunce_sync"', blocked=packages)
    assert f"not installed: {', '.join(packages)}." in output


def test_the_app_itself_must_be_installed(tmp_path: Path) -> None:
    code, output = run(tmp_path, "-m", "django", "check", apps='"rest_framework"')
    assert code != 0
    assert (
        'ImproperlyConfigured: The REST API of bunce_sync needs its app: add "bunce_sync"' in output
    )


def test_without_the_extra_the_app_works_and_only_the_api_does_not(tmp_path: Path) -> None:
    blocked = ("rest_framework", "drf_spectacular", "django_filters", "drf_spectacular_sidecar")
    command = ("-c", "import django; django.setup(); import bunce_sync.services, bunce_sync.tasks")
    assert run(tmp_path, *command, apps='"bunce_sync"', blocked=blocked) == (0, "")


@pytest.mark.parametrize(
    "apps", ['"bunce_sync"', '"bunce_sync", "rest_framework", "drf_spectacular"']
)
def test_it_works_without_other_apps_and_the_docs_say_what_they_lack(
    tmp_path: Path, apps: str
) -> None:
    blocked = ("drf_spectacular_sidecar",)
    code, output = run(tmp_path, "-c", READ_DOCS, apps=apps, blocked=blocked)
    assert code == 0, output
    assert 'Add <code>"drf_spectacular_sidecar"</code> to <code>INSTALLED_APPS</code>' in output
