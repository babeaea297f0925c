"""Compare the pinned packages with the database of known vulnerabilities: `make audit`.

    audit.py PIP_AUDIT REQUIREMENTS

The exit code is 1 if a package has a known vulnerability. Without the database nothing is known:
then it says so and exits with 0, so that a missing network is no failure, and claims no success.
pip-audit itself exits with 0 for packages that it could not look up.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

#: Seconds; each package is a request.
TIMEOUT = 600


def main(pip_audit: str, requirements: str) -> int:
    """Run pip-audit, print what it found, and return the exit code."""
    command = [pip_audit, "--requirement", requirements, "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(  # noqa: S603 - the Makefile names the program
            command, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        packages = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return _not_audited(f"pip-audit did not end within {TIMEOUT} seconds")
    except (ValueError, KeyError):
        lines = done.stderr.strip().splitlines()
        return _not_audited(lines[-1] if lines else f"pip-audit exited with {done.returncode}")
    return _report(packages)


def _report(packages: list[dict[str, Any]]) -> int:
    audited = [one for one in packages if "skip_reason" not in one]
    skipped = [one for one in packages if "skip_reason" in one]
    if not audited:
        return _not_audited(skipped[0]["skip_reason"] if skipped else "there are no packages")
    found = [(one, each) for one in audited for each in one["vulns"]]
    for package, vulnerability in found:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version"
        name = f"{package['name']} {package['version']}"
        _say(f"VULNERABLE: {name}: {vulnerability['id']}, fixed in {fixed}")
    for package in skipped:
        _say(f"NOT AUDITED: {package['name']}: {package['skip_reason']}")
    _say(f"{len(audited)} of {len(packages)} packages audited, {len(found)} known vulnerabilities.")
    return 1 if found else 0


def _not_audited(reason: str) -> int:
    _say(f"NOT AUDITED: the database of vulnerabilities could not be used: {reason}")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
