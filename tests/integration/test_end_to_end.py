"""A segment from the admin to Bunce and back, through real processes, on each stack."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from bunce_sync.testing.emulator import Emulator
from tests.site import Broker, Site

STACKS = ["postgres+redis", "mariadb+rabbitmq", "sqlite+filesystem"]


@pytest.fixture(params=STACKS)
def site(
    request: pytest.FixtureRequest, database_access: None, bunce: Emulator, tmp_path: Path
) -> Iterator[Site]:
    """The sample site on one database and broker, with the local Bunce."""
    database, broker = request.param.split("+")
    url: str = request.getfixturevalue(f"{database}_database")
    messages: Broker = request.getfixturevalue(f"{broker}_broker")
    env = {"BUNCE_SWEEP_INTERVAL": "2"}
    with Site(tmp_path, url, messages, bunce.base_url, env) as site:
        yield site


class Admin:
    """A browser session in the admin."""

    def __init__(self, site: Site) -> None:
        self._root = f"{site.url}/admin/"
        self._browser = requests.Session()
        name, password = site.create_login()
        self._post("login/", username=name, password=password)

    def add_segment(self, name: str, description: str = "") -> None:
        self._post("bunce_sync/segment/add/", name=name, description=description)

    def page(self, path: str) -> str:
        response = self._browser.get(self._root + path, timeout=30)
        response.raise_for_status()
        return response.text

    def close(self) -> None:
        self._browser.close()

    def _post(self, path: str, **fields: str) -> None:
        self.page(path)
        token = self._browser.cookies["csrftoken"]
        response = self._browser.post(
            self._root + path,
            data={**fields, "csrfmiddlewaretoken": token},
            timeout=30,
            allow_redirects=False,
        )
        assert response.status_code == 302, f"{path} was not accepted: {response.text}"


@pytest.fixture
def admin(site: Site) -> Iterator[Admin]:
    """A logged-in session in the admin of the running web server."""
    site.start_web()
    session = Admin(site)
    yield session
    session.close()


def test_a_segment_added_in_the_admin_is_created_in_bunce_once_and_shown_with_its_id(
    site: Site, admin: Admin, bunce: Emulator
) -> None:
    site.start_worker()
    admin.add_segment("Newsletter readers", "Asked for it")
    site.wait_until(site.segments.filter(status="synced").exists, "the segment is synced")

    [stored] = bunce.segments
    segment = site.segments.get()
    assert (stored.name, stored.description) == ("Newsletter readers", "Asked for it")
    assert (segment.bunce_id, segment.bunce_type) == (stored.id, stored.type)
    assert segment.bunce_created_at is not None
    assert datetime.now(UTC) - segment.bunce_created_at < timedelta(minutes=2)
    assert stored.id in admin.page("bunce_sync/segment/")
    assert [call.bunce_id for call in site.calls.filter(operation="create")] == [stored.id]


def test_the_sweep_finds_a_segment_whose_message_was_lost(site: Site, bunce: Emulator) -> None:
    site.shell("Segment.objects.bulk_create([Segment(name='Quiet')])")
    site.start_worker(beat=False)
    site.start_beat()
    site.wait_until(site.segments.filter(status="synced").exists, "the segment is synced")
    assert [stored.name for stored in bunce.segments] == ["Quiet"]


def test_a_segment_saved_before_a_worker_runs_is_created_when_it_starts(
    site: Site, bunce: Emulator
) -> None:
    site.shell("Segment.objects.create(name='Early', add_all_customers=True)")
    assert site.segments.get().status == "pending"
    site.start_worker()
    site.wait_until(site.segments.filter(status="synced").exists, "the segment is synced")
    assert [stored.name for stored in bunce.segments] == ["Early"]
    assert site.segments.get().bunce_all_customers is True
