"""The running API held against its own description by schemathesis, in sequences of calls too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from bunce_sync.emulator import Emulator
from tests.integration.api_service import Service
from tests.site import Broker, Site

#: How it logs in, and which refusals are right; with the reasons.
CONFIG = Path(__file__).with_name("api_schemathesis.toml")
#: Examples of each operation; and seconds after which no new ones are begun.
EXAMPLES = 5
BUDGET = 35


def test_no_call_fails_or_answers_otherwise_than_described(
    database_access: None,
    postgres_database: str,
    filesystem_broker: Broker,
    bunce: Emulator,
    tmp_path: Path,
) -> None:
    with Site(tmp_path, postgres_database, filesystem_broker, bunce.base_url) as site:
        web = site.start_web()
        service = Service(site)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"),
                str(files("bunce_sync.api") / "openapi.json"),
                *(
                    "--url",
                    service.root,
                    "--no-color",
                    "--phases",
                    "examples,coverage,fuzzing,stateful",
                ),
                *("--max-examples", str(EXAMPLES), "--max-time", str(BUDGET)),
                *("--generation-database", "none", "--continue-on-failure"),
            ],
            cwd=tmp_path,
            env={**os.environ, "API_TOKEN": service.token},
            capture_output=True,
            text=True,
            timeout=BUDGET + 60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        [cases] = re.findall(r"(\d+) generated, \1 passed", done.stdout)
        assert int(cases) > 200, done.stdout
        assert not re.findall(r'" 5\d\d ', web.output)
        assert site.segments.exists()
