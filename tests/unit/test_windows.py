"""What Python lacks on Windows is not needed there: checks, migrations, a sweep, the emulator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.site import ROOT

#: Run first in a new process: remove what only Unix has.
UNIX_ONLY = """
import os, signal, sys, time
for name in ("fork", "register_at_fork", "getuid", "geteuid", "getgid", "uname", "killpg",
             "getpgid", "setsid", "statvfs"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "setitimer", "pthread_sigmask"):
    if hasattr(signal, name):
        delattr(signal, name)
delattr(time, "tzset")
class NotOnWindows:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource", "pwd", "grp", "termios"):
            caller = sys._getframe(1)
            while caller and "importlib" in caller.f_code.co_filename:
                caller = caller.f_back
            # Django and other libraries import these where they exist; this app must not.
            if caller and "bunce_sync" in caller.f_code.co_filename:
                raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NotOnWindows())
import django
django.setup()
"""
STEPS = """
from django.core.management import call_command
call_command("check")
call_command("migrate", verbosity=0)
from bunce_sync.testing.emulator import Emulator
from bunce_sync.models import Segment
from django.conf import settings
with Emulator() as bunce:
    settings.BUNCE_SYNC = {"BASE_URL": bunce.base_url, "API_KEY": "sk_test_1"}
    Segment.objects.create(name="VIP")
    call_command("bunce_sweep")
    print([stored.name for stored in bunce.segments])
"""


def test_a_site_works_without_what_only_unix_has(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNIX_ONLY + STEPS],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("['VIP']")
