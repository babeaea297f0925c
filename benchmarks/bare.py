"""Nothing but a kept-alive ``requests.Session``: python -m benchmarks.bare URL COUNT.

Prints the seconds it took and the CPU seconds of it, as JSON.
"""

from __future__ import annotations

import json
import sys
import time

import requests


def main(url: str, count: int) -> None:
    """Post the segments one after the other."""
    with requests.Session() as session:
        session.headers["X-Authorization"] = "sk_test_bare"
        session.post(url, json={"name": "Warm"}, timeout=20).raise_for_status()
        begun, cpu = time.perf_counter(), time.process_time()
        for number in range(count):
            body = {"name": f"Bare {number}", "description": None, "add_all_customers": False}
            answer = session.post(url, json=body, timeout=20)
            answer.raise_for_status()
            answer.json()["data"]["id"]
        print(json.dumps([time.perf_counter() - begun, time.process_time() - cpu]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
