"""The description of the API, the page that shows it, and the app without any of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from django.test import modify_settings, override_settings
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings
from rest_framework.test import APIClient

from bunce_sync.api import schema, urls
from tests.unit.api_client import ALL, client_for, get, is_problem, post, user_with

ROOT = Path(__file__).resolve().parents[2]


def described() -> dict[str, Any]:
    """What drf-spectacular makes of the views as they are."""
    generator: Any = SchemaGenerator  # it has no types
    with patched_settings(schema.SETTINGS):
        made: dict[str, Any] = generator(patterns=urls.urlpatterns).get_schema(public=True)
    return made


@pytest.fixture
def client() -> APIClient:
    return client_for(user_with(*ALL))


def test_the_committed_description_is_that_of_the_views() -> None:
    committed = json.loads(files("bunce_sync.api").joinpath("openapi.json").read_text("utf-8"))
    how = (schema.__doc__ or "").split("::")[-1]
    assert json.loads(json.dumps(described())) == committed, f"It is stale. Make it anew: {how}"


def test_it_is_openapi_3_1_and_every_operation_tells_its_answers() -> None:
    made = described()
    assert made["openapi"].startswith("3.1.")
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["description"], where
            assert {"401", "403", "429"} <= operation["responses"].keys(), where
            assert any(status < "300" for status in operation["responses"]), where


def test_every_example_is_as_the_description_says() -> None:
    made = described()
    found = 0
    for operations in made["paths"].values():
        for operation in operations.values():
            bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
            for body in bodies:
                for media in body.get("content", {}).values():
                    for example in media.get("examples", {}).values():
                        found += 1
                        validator = jsonschema.Draft202012Validator(
                            {**media["schema"], "components": made["components"]}
                        )
                        validator.validate(example["value"])
    assert found >= 8


@pytest.mark.django_db
def test_the_site_serves_it_with_its_own_address_and_logins(client: APIClient) -> None:
    served = get(client, "schema/").json()
    assert served["servers"] == [{"url": "/api"}]
    assert set(served["components"]["securitySchemes"]) == {"tokenAuth", "cookieAuth"}
    assert served["security"] == [{"tokenAuth": []}, {"cookieAuth": []}]
    assert served["paths"] == json.loads(json.dumps(described()["paths"]))


@pytest.mark.django_db
def test_the_page_takes_everything_from_the_site_and_nothing_inline(client: APIClient) -> None:
    response = get(client, "docs/", Accept="text/html")
    page = response.content.decode()
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/html")
    assert re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    for address in re.findall(r"(?:src|href)=\"([^\"]+)\"", page):
        assert address.startswith("/static/") or address == "/api/schema/"
        assert client.get(address).status_code == 200 or not address.startswith("/api/")
    assert not re.search(r"<script(?![^>]*src)|<style|style=|\son\w+=", page)
    policy = response["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("static_url", "origin"),
    [
        ("https://static.example.com/files/", "https://static.example.com"),
        ("https://static.example.com:8443/", "https://static.example.com:8443"),
        ("//static.example.com/", "static.example.com"),
    ],
)
def test_the_page_may_load_the_sites_static_files_from_another_host(
    client: APIClient, static_url: str, origin: str
) -> None:
    with override_settings(STATIC_URL=static_url):
        response = get(client, "docs/")
    assert f'src="{static_url}bunce_sync/api_docs.js"' in response.content.decode()
    allowed = dict(
        directive.split(None, 1) for directive in response["Content-Security-Policy"].split("; ")
    )
    for kind in ("script-src", "style-src", "img-src", "font-src"):
        assert allowed[kind].split()[:2] == ["'self'", origin]
    assert allowed["connect-src"] == "'self'"


def test_the_assets_of_the_page_are_packaged() -> None:
    from django.contrib.staticfiles import finders

    for name in (
        "drf_spectacular_sidecar/swagger-ui-dist/swagger-ui.css",
        "drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js",
        "drf_spectacular_sidecar/swagger-ui-dist/favicon-32x32.png",
        "bunce_sync/api_docs.js",
    ):
        assert finders.find(name), name


@pytest.mark.django_db
@modify_settings(INSTALLED_APPS={"remove": "drf_spectacular_sidecar"})
def test_without_the_assets_the_page_says_what_to_do(client: APIClient) -> None:
    page = get(client, "docs/").content.decode()
    assert "INSTALLED_APPS" in page
    assert "<script" not in page


@pytest.mark.django_db
def test_answers_are_as_the_description_says(client: APIClient) -> None:
    made = described()

    def check(response: Any, method: str, path: str) -> None:
        answer = made["paths"][path][method]["responses"][str(response.status_code)]
        media = answer["content"][response["Content-Type"]]
        whole = {**media["schema"], "components": made["components"]}
        jsonschema.Draft202012Validator(whole).validate(response.json())

    check(post(client, "segments/", {"name": "VIP"}), "post", "/segments/")
    check(post(client, "segments/", {"name": ""}), "post", "/segments/")
    check(post(client, "segments/bulk/", {"segments": [{"name": "A"}]}), "post", "/segments/bulk/")
    check(get(client, "segments/"), "get", "/segments/")
    check(get(client, "segments/0/"), "get", "/segments/{id}/")
    check(get(client, "status/"), "get", "/status/")


BLOCKER = """
import sys

BLOCKED = {"rest_framework", "drf_spectacular", "drf_spectacular_sidecar", "django_filters"}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())

from django.conf import settings

settings.configure(
    DEBUG=True,
    SECRET_KEY="x",
    ROOT_URLCONF="urls_without_api",
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django.contrib.staticfiles",
        "bunce_sync",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[{
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": [
            "django.template.context_processors.request",
            "django.contrib.auth.context_processors.auth",
            "django.contrib.messages.context_processors.messages",
        ]},
    }],
    DATABASES={"default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    }},
    USE_TZ=True,
    STATIC_URL="static/",
    BUNCE_SYNC={"API_KEY": "sk_test_x", "ENV": "sandbox"},
)

import types

import django

django.setup()

from django.contrib import admin
from django.core.management import call_command
from django.urls import path

module = types.ModuleType("urls_without_api")
module.urlpatterns = [path("admin/", admin.site.urls)]
sys.modules["urls_without_api"] = module

call_command("check", "--fail-level", "WARNING")
call_command("migrate", verbosity=0)
call_command("makemigrations", "bunce_sync", "--check", "--dry-run", verbosity=0)

import bunce_sync.actions, bunce_sync.sync.sweep, bunce_sync.tasks
from bunce_sync.models import Segment

Segment.objects.bulk_create([Segment(name="VIP")])
assert Segment.objects.due().count() == 1
assert bunce_sync.sync.sweep.sweep().workers
assert not {name.partition(".")[0] for name in sys.modules} & BLOCKED
assert not any(name.startswith("bunce_sync.api") for name in sys.modules)
print("works without")
"""


def test_the_app_works_and_passes_its_checks_without_the_packages_of_the_api() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKER],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("works without\n")


@pytest.mark.django_db
def test_the_description_and_the_page_are_not_for_everybody() -> None:
    is_problem(get(client_for(None), "schema/"), 401)
    is_problem(get(client_for(None), "docs/", Accept="text/html"), 401)
