"""The services that tests use: a missing one is skipped or failed by name."""

from dataclasses import replace

import pytest

from tests import services
from tests.services import Service

#: Addresses without a service: nothing listens on port 1.
UNREACHABLE = {
    "PostgreSQL": "postgres://postgres@127.0.0.1:1",
    "MariaDB": "mysql://root@127.0.0.1:1",
    "Redis": "redis://127.0.0.1:1",
    "RabbitMQ": "amqp://guest:guest@127.0.0.1:1",
    "Chromium": "/nowhere/chromium",
    "PostgreSQL's command line": "/nowhere",
}


@pytest.fixture(params=services.ALL, ids=lambda service: service.name)
def missing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Service:
    service: Service = request.param
    monkeypatch.delenv(service.variable, raising=False)
    return replace(service, default=UNREACHABLE[service.name])


def test_a_test_without_its_service_is_skipped_by_name(
    missing: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"{missing.name} .*{missing.variable}"):
        services.require(missing)


def test_a_test_without_its_service_fails_in_ci(
    missing: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=missing.name):
        services.require(missing)


def test_a_variable_gives_the_address_of_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_REDIS_URL", "redis://10.0.0.1:6380")
    assert services.REDIS.address == "redis://10.0.0.1:6380"
