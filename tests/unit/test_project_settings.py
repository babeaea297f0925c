"""The sample project's settings, and the messages about invalid environment variables."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from project import env

ROOT = Path(__file__).resolve().parents[2]
BASE = Path("/srv/site")


def settings_with(**environment: str) -> subprocess.CompletedProcess[str]:
    """Read the settings in a process with this environment; `stdout` is JSON."""
    code = (
        "import json; from project import settings as s;"
        "print(json.dumps({k: v for k, v in vars(s).items() if k.isupper()}, default=str))"
    )
    ours = ("BUNCE_", "CELERY_", "DATABASE_", "DJANGO_")
    others = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=others | {"CELERY_BROKER_URL": "memory://"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def read(**environment: str) -> dict[str, Any]:
    done = settings_with(**environment)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_without_variables_the_site_needs_no_other_service() -> None:
    settings = read()
    assert settings["DEBUG"] is True
    assert settings["BUNCE_SYNC"] == {}
    assert settings["DATABASES"]["default"]["ENGINE"] == "django.db.backends.sqlite3"
    assert settings["DATABASES"]["default"]["NAME"] == str(ROOT / "db.sqlite3")


def test_each_setting_of_the_app_is_read_from_its_variable() -> None:
    settings = read(
        BUNCE_API_KEY=" sk_test_1\n",
        BUNCE_ENV="sandbox",
        BUNCE_GRACE="2.5",
        BUNCE_RATE_LIMIT="none",
        BUNCE_PAGE_SIZE="50",
        BUNCE_LEASE="",
    )
    assert settings["BUNCE_SYNC"] == {
        "API_KEY": "sk_test_1",
        "ENV": "sandbox",
        "GRACE": 2.5,
        "RATE_LIMIT": None,
        "PAGE_SIZE": 50,
    }


def test_an_invalid_number_is_passed_on_to_the_system_check() -> None:
    assert read(BUNCE_GRACE="soon", BUNCE_LEASE="-1")["BUNCE_SYNC"] == {
        "GRACE": "soon",
        "LEASE": -1,
    }


def test_a_worker_without_a_queue_option_consumes_the_apps_queue_too() -> None:
    settings = read(BUNCE_QUEUE="segments")
    assert set(settings["CELERY_TASK_QUEUES"]) == {"celery", "segments"}
    assert settings["BUNCE_SYNC"]["QUEUE"] == "segments"


def test_without_debug_the_secret_key_is_required() -> None:
    done = settings_with(DJANGO_DEBUG="0")
    assert done.returncode != 0
    assert "DJANGO_SECRET_KEY" in done.stderr.splitlines()[-1]
    assert read(DJANGO_DEBUG="0", DJANGO_SECRET_KEY="k")["SECRET_KEY"] == "k"


def test_hosts_are_comma_separated() -> None:
    assert read(DJANGO_ALLOWED_HOSTS="a.example, b.example,")["ALLOWED_HOSTS"] == [
        "a.example",
        "b.example",
    ]


def test_a_flag_that_is_not_a_boolean_is_an_error_with_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DJANGO_DEBUG", "maybe")
    with pytest.raises(ImproperlyConfigured, match="DJANGO_DEBUG is 'maybe'"):
        env.flag("DJANGO_DEBUG", default=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("0.5", 0.5), ("None", None), ("1e3", 1000.0), ("x", "x")],
)
def test_a_number_is_converted_and_other_text_is_kept(text: str, value: object) -> None:
    assert env.number(text) == value


@pytest.mark.parametrize(
    ("url", "engine", "host"),
    [
        ("postgres://me:secret@db.example:5433/site", "postgresql", "db.example"),
        ("postgresql:///site", "postgresql", ""),
        ("mysql://me:secret@db.example/site", "mysql", "db.example"),
    ],
)
def test_a_database_url_names_engine_host_and_database(url: str, engine: str, host: str) -> None:
    database = env.database(url, base=BASE)
    assert database["ENGINE"] == f"django.db.backends.{engine}"
    assert (database["HOST"], database["NAME"]) == (host, "site")


def test_mysqlclient_is_used_if_it_is_installed_and_pymysql_if_not(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from project import env;"
        "env.database('mysql://me@db.example/site', base=Path()); import MySQLdb;"
        "print(MySQLdb.__name__)"
    )

    def driver(path: str) -> str:
        command = [sys.executable, "-c", code]
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert driver("") == "pymysql"
    (tmp_path / "MySQLdb.py").touch()
    assert driver(str(tmp_path)) == "MySQLdb"


def test_mysql_is_strict_and_stores_all_of_unicode() -> None:
    options = env.database("mysql://me@db.example/site", base=BASE)["OPTIONS"]
    assert options == {"charset": "utf8mb4", "sql_mode": "TRADITIONAL"}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:///site.sqlite3", BASE / "site.sqlite3"),
        ("sqlite:////var/site.sqlite3", Path("/var/site.sqlite3")),
        ("sqlite://:memory:", ":memory:"),
    ],
)
def test_a_relative_sqlite_path_does_not_depend_on_the_working_directory(
    url: str, name: object
) -> None:
    database = env.database(url, base=BASE)
    assert database["NAME"] == name
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


def test_options_in_the_url_take_precedence() -> None:
    options = env.database("sqlite:///a?timeout=5", base=BASE)["OPTIONS"]
    assert options["timeout"] == 5
    assert options["transaction_mode"] == "IMMEDIATE"


@pytest.mark.parametrize("url", ["postgres//me:secret@db/site", "foo://me:secret@db/x", "secret"])
def test_an_invalid_database_url_is_an_error_that_does_not_repeat_it(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL is not a valid") as error:
        env.database(url, base=BASE)
    assert "secret" not in str(error.value)
    assert error.value.__suppress_context__


def test_the_filesystem_broker_creates_its_folder(tmp_path: Path) -> None:
    *_, options = env.broker("filesystem://localhost", folder=tmp_path / "a" / "b")
    assert options["data_folder_in"] == options["data_folder_out"]
    assert Path(options["data_folder_in"]).is_dir()
    assert Path(options["data_folder_in"]).is_relative_to(tmp_path / "a" / "b")


def test_the_filesystem_broker_can_use_another_folder(tmp_path: Path) -> None:
    *_, options = env.broker(f"filesystem://localhost{tmp_path}/here", folder=BASE)
    assert Path(options["data_folder_in"]).is_relative_to(tmp_path / "here")


@pytest.mark.parametrize("url", ["redis://10.0.0.1/3", "amqp://guest:guest@10.0.0.1/vhost"])
def test_any_other_broker_url_is_kept(url: str) -> None:
    assert env.broker(url, folder=BASE) == (url, None, {})
