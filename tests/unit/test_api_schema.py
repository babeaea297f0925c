"""The description of the API, the page that shows it, and the app without any of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from django.core.cache import cache
from django.test import modify_settings, override_settings
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings
from rest_framework.test import APIClient

from bunce_sync.api import schema, urls
from bunce_sync.conf import conf
from bunce_sync.models import (
    ApiCall,
    IdempotencyKey,
    ImportRun,
    Member,
    PushHold,
    Segment,
    SyncState,
)
from tests.unit.api_client import (
    ALL,
    client_for,
    delete,
    get,
    is_problem,
    patch,
    post,
    put,
    user_with,
)

ROOT = Path(__file__).resolve().parents[2]


def described() -> dict[str, Any]:
    """Generate the description from the views."""
    generator: Any = SchemaGenerator  # it has no types
    with patched_settings(schema.SETTINGS):
        made: dict[str, Any] = generator(patterns=urls.urlpatterns).get_schema(public=True)
    return made


def resolved(description: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference to a shared response."""
    if "$ref" not in response:
        return response
    shared: dict[str, Any] = description["components"]["responses"]
    found: dict[str, Any] = shared[response["$ref"].rpartition("/")[2]]
    return found


@pytest.fixture
def client() -> APIClient:
    return client_for(user_with(*ALL))


def test_the_committed_description_is_up_to_date() -> None:
    committed = json.loads(files("bunce_sync.api").joinpath("openapi.json").read_text("utf-8"))
    how = (schema.__doc__ or "").split("::")[-1]
    assert json.loads(json.dumps(described())) == committed, (
        f"It is out of date. To generate it: {how}"
    )


def test_it_is_openapi_3_1_and_every_operation_names_its_responses() -> None:
    made = described()
    assert made["openapi"].startswith("3.1.")
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["description"], where
            always = {"400", "401", "403", "406", "429", "500"}
            assert always <= operation["responses"].keys(), where
            assert any(status < "300" for status in operation["responses"]), where


def test_the_examples_match_the_description() -> None:
    made = described()
    found = 0
    for operations in made["paths"].values():
        for operation in operations.values():
            for media in operation.get("requestBody", {}).get("content", {}).values():
                for example in media.get("examples", {}).values():
                    found += 1
                    whole = {**media["schema"], "components": made["components"]}
                    jsonschema.Draft202012Validator(whole).validate(example["value"])
    assert found == 4


@pytest.mark.django_db
def test_the_site_serves_it_with_its_own_address_and_logins(client: APIClient) -> None:
    served = get(client, "schema/").json()
    assert served["servers"] == [{"url": "/api"}]
    assert set(served["components"]["securitySchemes"]) == {"tokenAuth", "cookieAuth"}
    assert served["security"] == [{"tokenAuth": []}, {"cookieAuth": []}]
    assert served["paths"] == json.loads(json.dumps(described()["paths"]))


@pytest.mark.django_db
def test_the_page_loads_everything_from_the_site_and_has_nothing_inline(client: APIClient) -> None:
    response = get(client, "docs/", Accept="text/html")
    page = response.content.decode()
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/html")
    assert re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    for address in re.findall(r"(?:src|href)=\"([^\"]+)\"", page):
        assert address.startswith("/static/") or address == "/api/schema"
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
def test_without_its_assets_the_page_says_what_to_do(client: APIClient) -> None:
    page = get(client, "docs/").content.decode()
    assert "INSTALLED_APPS" in page
    assert "<script" not in page


@pytest.mark.django_db
def test_where_no_static_file_was_collected_the_page_says_what_to_do(client: APIClient) -> None:
    storage = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
    with override_settings(DEBUG=False, STORAGES={"staticfiles": {"BACKEND": storage}}):
        response = get(client, "docs/")
    page = response.content.decode()
    assert "collectstatic" in page
    assert "<script" not in page
    assert "default-src 'none'" in response["Content-Security-Policy"]


@pytest.mark.django_db
def test_responses_match_the_description(client: APIClient) -> None:
    made = described()
    seen: dict[str, set[int]] = {}

    def check(response: Any, status: int, method: str, path: str, operation: str = "") -> None:
        described_as = made["paths"][operation or f"/{path}"][method]
        assert response.status_code == status, response.content
        seen.setdefault(described_as["operationId"], set()).add(status)
        answer = resolved(made, described_as["responses"][str(status)])
        assert {"ETag", "Location", "Retry-After"} & response.headers.keys() <= answer.get(
            "headers", {}
        ).keys()
        if status in (204, 304):
            assert "content" not in answer
            assert not response.content
            return
        media = answer["content"][response["Content-Type"]]
        whole = {**media["schema"], "components": made["components"]}
        jsonschema.Draft202012Validator(whole).validate(response.json())

    segments, one = "segments/", "/segments/{id}/"
    body = {"name": "VIP"}
    check(post(client, segments, body, Idempotency_Key="a"), 201, "post", segments)
    check(post(client, segments, body, Idempotency_Key="a"), 201, "post", segments)
    check(post(client, segments, {"name": "B"}, Idempotency_Key="a"), 422, "post", segments)
    IdempotencyKey.objects.update(result=[0])
    check(post(client, segments, body, Idempotency_Key="a"), 410, "post", segments)
    check(post(client, segments, {"name": ""}), 400, "post", segments)
    plain = client.post("/api/segments/", "VIP", content_type="text/plain")
    check(plain, 415, "post", segments)
    bulk = "segments/bulk/"
    check(post(client, bulk, {"segments": [body]}), 201, "post", bulk)
    check(post(client, bulk, {"segments": []}), 400, "post", bulk)
    check(get(client, segments), 200, "get", segments)
    check(get(client, segments, {"status": "x"}), 400, "get", segments)
    check(get(client, segments, Accept="text/csv"), 406, "get", segments)
    check(get(client_for(None), segments), 401, "get", segments)
    check(get(client_for(user_with(name="other")), segments), 403, "get", segments)
    check(get(client, "status/"), 200, "get", "status/")
    check(get(client, "imports/"), 404, "get", "imports/")
    check(post(client, "imports/", {"adopt": True}), 202, "post", "imports/")
    check(post(client, "imports/", {"adopt": "perhaps"}), 400, "post", "imports/")
    check(get(client, "imports/"), 200, "get", "imports/")
    check(get(client, "pause/"), 404, "get", "pause/")
    check(put(client, "pause/", {"reason": ""}), 400, "put", "pause/")
    check(put(client, "pause/", {"reason": "Moving house"}), 200, "put", "pause/")
    check(get(client, "pause/"), 200, "get", "pause/")
    PushHold.objects.create(by="www@web1, process 42")
    ImportRun.objects.update(counts={"imported": 3})
    Segment.objects.create(name="There")
    Segment.objects.filter(name="There").update_sync_fields(environment="https://a.test:443 live")
    check(get(client, "status/"), 200, "get", "status/")
    check(delete(client, "pause/"), 204, "delete", "pause/")
    check(delete(client, "imports/"), 204, "delete", "imports/")

    row = Segment.objects.create(name="VIP", description="The best")
    path = f"segments/{row.pk}/"
    read = get(client, path)
    check(read, 200, "get", path, one)
    check(get(client, path, If_None_Match=read["ETag"]), 304, "get", path, one)
    check(get(client, "segments/0/"), 404, "get", path, one)
    check(patch(client, path, {"name": "B"}), 200, "patch", path, one)
    check(patch(client, path, {"name": "C"}, If_Match=read["ETag"]), 412, "patch", path, one)
    check(patch(client, path, {"name": ""}), 400, "patch", path, one)
    check(patch(client, "segments/0/", {}), 404, "patch", path, one)
    ApiCall.objects.create(
        segment=row, operation="create", path="/segments", body={"name": "B"}, started_at=row.due_at
    )
    check(get(client, f"{path}calls/"), 200, "get", path, f"{one}calls/")
    check(get(client, "segments/0/calls/"), 404, "get", path, f"{one}calls/")
    theirs = f"{one}customers/"
    check(post(client, f"{path}customers/", {"customers": ["c"]}), 202, "post", path, theirs)
    check(get(client, f"{path}customers/"), 200, "get", path, theirs)
    refused = f"{theirs}refused/"
    Member.objects.update(status="refused", last_error="Not valid.")
    check(get(client, f"{path}customers/refused/"), 200, "get", path, refused)
    removal = client.generic(
        "DELETE", f"/api/{path}customers/", '{"customers": ["c"]}', content_type="application/json"
    )
    check(removal, 202, "delete", path, theirs)
    check(post(client, f"{path}customers/", {"customers": [""]}), 400, "post", path, theirs)
    check(post(client, f"{path}push/"), 202, "post", path, f"{one}push/")
    check(post(client, f"{path}retry/"), 409, "post", path, f"{one}retry/")
    Segment.objects.filter(pk=row.pk).update_sync_fields(status="rejected")
    check(post(client, f"{path}push/"), 409, "post", path, f"{one}push/")
    check(post(client, f"{path}retry/"), 202, "post", path, f"{one}retry/")
    check(post(client, f"{path}refresh/"), 409, "post", path, f"{one}refresh/")
    theirs, again = f"{one}take-theirs/", f"{one}create-again/"
    check(post(client, f"{path}take-theirs/"), 409, "post", path, theirs)
    check(post(client, f"{path}create-again/"), 409, "post", path, again)
    segments_here = Segment.objects.filter(pk=row.pk)
    segments_here.update_sync_fields(status="synced", bunce_id="b", last_code="drift")
    check(post(client, f"{path}take-theirs/", If_Match='"old"'), 412, "post", path, theirs)
    check(post(client, f"{path}take-theirs/"), 200, "post", path, theirs)
    segments_here.update_sync_fields(status="rejected", last_code="not_found")
    check(post(client, f"{path}create-again/"), 202, "post", path, again)
    SyncState.objects.update_or_create(
        pk=conf.environment, defaults={"blocked_until": row.due_at + timedelta(hours=1)}
    )
    paused = post(client, f"{path}push/")
    assert paused["Retry-After"]
    check(paused, 202, "post", path, f"{one}push/")
    Segment.objects.filter(pk=row.pk).update_sync_fields(status="synced", bunce_id="id")
    check(post(client, f"{path}refresh/"), 202, "post", path, f"{one}refresh/")
    check(delete(client, path, If_Match='"old"'), 412, "delete", path, one)
    Segment.objects.filter(pk=row.pk).update_sync_fields(status="in_doubt", bunce_id=None)
    check(delete(client, path), 409, "delete", path, one)
    Segment.objects.filter(pk=row.pk).update_sync_fields(status="rejected")
    check(delete(client, path), 204, "delete", path, one)

    operations = {
        operation["operationId"]
        for methods in made["paths"].values()
        for operation in methods.values()
    }
    assert seen.keys() == operations


@pytest.mark.django_db
def test_a_throttled_response_matches_the_description(client: APIClient) -> None:
    cache.clear()
    with override_settings(REST_FRAMEWORK={"DEFAULT_THROTTLE_RATES": {"bunce_sync": "1/min"}}):
        get(client, "status/")
        response = get(client, "status/")
    made = described()
    answer = resolved(made, made["paths"]["/status/"]["get"]["responses"]["429"])
    is_problem(response, 429)
    assert response.headers.keys() & answer["headers"].keys() == {"Retry-After"}


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

import bunce_sync.services, bunce_sync.sync.sweep, bunce_sync.tasks
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
def test_the_description_and_the_page_require_authentication() -> None:
    is_problem(get(client_for(None), "schema/"), 401)
    is_problem(get(client_for(None), "docs/", Accept="text/html"), 401)
