"""Sites whose settings of Celery and of the database are not the usual ones."""

from pathlib import Path

from bunce_sync.testing.emulator import Emulator, Faults
from tests.site import Broker, Site


def test_the_sites_time_limits_for_tasks_do_not_end_a_request(
    database_access: None,
    bunce: Emulator,
    sqlite_database: str,
    redis_broker: Broker,
    tmp_path: Path,
) -> None:
    bunce.set_faults(Faults(trickle=1.0, trickle_seconds=0.02))  # a response takes some 5 seconds
    env = {
        "BUNCE_SWEEP_INTERVAL": "2",
        "DJANGO_SETTINGS_MODULE": "tests.integration.limits_settings",
    }
    with Site(tmp_path, sqlite_database, redis_broker, bunce.base_url, env) as site:
        site.start_worker()
        site.put("VIP")
        site.wait_until(lambda: not site.segments.filter(status="pending").exists(), "it is sent")
        site.wait_until(
            lambda: not site.segments.filter(status="sending").exists(), "a result is recorded"
        )
        assert site.segments.get().status == "synced"
        assert [call.outcome for call in site.calls] == ["confirmed"]
