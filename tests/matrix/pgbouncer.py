"""A pgbouncer in transaction mode, in front of a PostgreSQL server."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
import pytest

from tests import services
from tests.site import eventually, free_port

#: The account that it runs as if the tests are run by root, as which it does not run.
UNPRIVILEGED = "nobody"
CONFIG = """\
[databases]
* = host={host} port={port} user={user} {password}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 20
max_client_conn = 500
; from PGOPTIONS, which the unit tests set for speed
ignore_startup_parameters = options
{run_as}
"""


@contextmanager
def running_pgbouncer(folder: Path, database_url: str) -> Iterator[str]:
    """Start a pgbouncer on a free port, and yield the URL of the database behind it."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.fail("pgbouncer is not installed", pytrace=False)
    server = urlsplit(database_url)
    port = free_port()
    config = CONFIG.format(
        host=server.hostname,
        port=server.port or 5432,
        user=unquote(server.username or "postgres"),
        password=f"password={unquote(server.password)}" if server.password else "",
        listen_port=port,
        run_as=f"user = {UNPRIVILEGED}" if os.geteuid() == 0 else "",
    )
    path = folder / "pgbouncer.ini"
    path.write_text(config)
    log = folder / "pgbouncer.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, str(path)], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    url = server._replace(netloc=f"pooled@127.0.0.1:{port}").geturl()

    def responds() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            services.connect_postgres(url).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        assert eventually(responds), log.read_text()
        yield url
    finally:
        process.kill()
        process.wait(10)
