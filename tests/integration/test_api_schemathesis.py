"""Schemathesis tests of the running API against its description, with sequences of calls."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from bunce_sync.testing.emulator import Emulator
from tests.integration.api_service import Service
from tests.site import Broker, Site

#: How schemathesis logs in, and which refusals are expected, with the reasons.
CONFIG = Path(__file__).with_name("api_schemathesis.toml")
#: Examples of each operation and of sequences; the seed makes them reproducible.
EXAMPLES = 5
SEED = 1
#: Seconds after which the run has hung, however slow the machine is.
PATIENCE = 300

#: The rows that the configuration names: refused by Bunce, and changed there since.
ROWS = """
Segment.objects.bulk_create(Segment(name=f"Segment {number}") for number in range(20))
Segment.objects.filter(pk__lte=10).update_sync_fields(status="rejected", last_code="rejected")
for segment in Segment.objects.filter(pk__gt=10):
    Segment.objects.filter(pk=segment.pk).update_sync_fields(
        status="synced", last_code="drift", bunce_id=f"id-{segment.pk}",
        sent_digest=segment.content_fingerprint, listed_digest=segment.listed_fingerprint,
    )
"""


def test_every_response_matches_the_description(
    database_access: None,
    postgres_database: str,
    filesystem_broker: Broker,
    bunce: Emulator,
    tmp_path: Path,
) -> None:
    with Site(tmp_path, postgres_database, filesystem_broker, bunce.base_url) as site:
        web = site.start_web()
        service = Service(site)
        site.shell(ROWS)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"),
                str(files("bunce_sync.api") / "openapi.json"),
                *("--url", service.root, "--no-color"),
                *("--phases", "examples,coverage,fuzzing,stateful"),
                *("--max-examples", str(EXAMPLES), "--seed", str(SEED)),
                *("--generation-database", "none", "--continue-on-failure"),
            ],
            cwd=tmp_path,
            env={**os.environ, "API_TOKEN": service.token},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        output = done.stdout
        assert done.returncode == 0, output + done.stderr
        [cases] = re.findall(r"(\d+) generated, \1 passed", output)
        assert int(cases) > 200, output
        # It followed links from the response of one call to the next call.
        [scenarios] = re.findall(r"Scenarios: +(\d+)", output)
        [covered] = re.findall(r"API Links: +(\d+) covered", output)
        assert int(scenarios) >= EXAMPLES, output
        assert int(covered) >= EXAMPLES, output
        assert not re.findall(r'" 5\d\d ', web.output)
        for action in ("push", "retry"):
            assert re.search(rf'"POST /api/segments/\d+/{action}/ HTTP/1.1" 202 ', web.output)
        assert site.segments.exists()
