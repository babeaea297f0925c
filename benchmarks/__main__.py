"""Runs the benchmarks: python -m benchmarks [name [options]]; all of them without a name."""

from __future__ import annotations

import importlib
import os
import signal
import sys

import django

NAMES = ("sustained", "burst", "backlog", "overhead", "save", "scale", "api", "emulator")


def main() -> None:
    """Run one with its options, or all as they are."""
    name, options = sys.argv[1:2], sys.argv[2:]
    if name and name[0] not in NAMES:
        raise SystemExit(f"no such benchmark: {name[0]}; known: {', '.join(NAMES)}")
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    os.environ["CELERY_BROKER_URL"] = "memory://"  # of this process; the sites have their own
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all that was made is removed
    django.setup()
    for one in name or NAMES:
        importlib.import_module(f"benchmarks.{one}").main(options)
    missed = importlib.import_module("benchmarks.machine").missed
    if missed:
        raise SystemExit("\n".join(["", "These figures missed what they must reach:", *missed]))


if __name__ == "__main__":
    main()
