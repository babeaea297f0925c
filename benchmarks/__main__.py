"""Runs one benchmark, or all of them: python -m benchmarks [name [options]]."""

from __future__ import annotations

import importlib
import os
import signal
import sys

import django

NAMES = (
    *("sustained", "burst", "backlog", "overhead", "save", "scale", "api", "imports", "customers"),
    "emulator",
)


def main() -> None:
    """Run one benchmark with its options, or all with their defaults."""
    name, options = sys.argv[1:2], sys.argv[2:]
    if name and name[0] not in NAMES:
        raise SystemExit(f"Unknown benchmark: {name[0]}. Choose from {', '.join(NAMES)}.")
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    os.environ["CELERY_BROKER_URL"] = "memory://"  # of this process; the sites have their own
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that context managers clean up
    django.setup()
    for benchmark in name or NAMES:
        importlib.import_module(f"benchmarks.{benchmark}").main(options)
    missed = importlib.import_module("benchmarks.machine").missed
    if missed:
        raise SystemExit("\n".join(["", "These figures miss their required values:", *missed]))


if __name__ == "__main__":
    main()
