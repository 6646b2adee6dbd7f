#!/usr/bin/env python3
"""Runs the integration tests repeatedly under load, and lists every test that failed at least once.

    tests/repeat.py [--times N] [--load L] [FILTER...]

Each run shares the machine with L processes that only compute. They represent a compile job or a busy CI machine. A flaky test is a
defect, of the test or of the code that it tests. The run's log has its output, the load of the machine, the slowest calls and the end of
the operator's log. Exits with status 1 if any test failed. Standard library only.
"""

import argparse
import collections
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
RESULT = re.compile(r"^test (\S+) \.\.\. (ok|FAILED)", re.MULTILINE)
BURN = "import os, time\nend = time.monotonic() + 7200\nparent = os.getppid()\nwhile time.monotonic() < end and os.getppid() == parent: sum(range(10**6))"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--times", type=int, default=10, help="how many runs (default 10)")
    arguments.add_argument("--load", type=int, default=16, help="how many processes compute at the same time (default 16)")
    arguments.add_argument("filter", nargs="*", help="run only the tests whose names contain one of these")
    options = arguments.parse_args()

    binary = build()
    logs = target() / "test-repeat"
    logs.mkdir(parents=True, exist_ok=True)
    failures, passed, broken = collections.Counter(), 0, 0
    for number in range(1, options.times + 1):
        log = logs / f"run-{number}.log"
        begun, cpu = time.monotonic(), os.times()
        with burning(options.load):
            status = run(binary, options.filter, log)
        text = log.read_text(errors="replace")
        results = RESULT.findall(text)
        failed = [name for name, result in results if result == "FAILED"]
        failures.update(failed)
        passed += status == 0
        broken += status != 0 and not failed
        took = time.monotonic() - begun
        load = os.getloadavg()[0]
        print(f"run {number}: {len(results)} tests, {len(failed)} failed, {took:.0f} s, load {load:.1f}, {log}", flush=True)
        for name in failed:
            print(f"    {name}", flush=True)

    if failures:
        print("failed at least once:")
        for name, times in failures.most_common():
            print(f"    {times} of {options.times}: {name}")
    if broken:
        print(f"{broken} runs ended without a result; see their logs")
    print(f"{passed} passed, {options.times - passed} failed")
    sys.exit(passed != options.times)


def target():
    found = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"],
        cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return Path(json.loads(found.stdout)["target_directory"])


def build():
    """Builds the integration tests and what they need, and returns their program."""
    command = ["cargo", "test", "--locked", "--workspace", "--no-run", "--message-format", "json-render-diagnostics"]
    built = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    for line in built.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and message["target"]["name"] == "integration":
            return message["executable"]
    raise SystemExit("tests/repeat.py: cargo built no integration tests")


def run(binary, names, log):
    environment = {"RUST_TEST_THREADS": "48", **os.environ, "CARGO_MANIFEST_DIR": str(REPOSITORY)}
    with open(log, "w") as output:
        done = subprocess.run([binary, *names], cwd=REPOSITORY, env=environment, stdout=output, stderr=subprocess.STDOUT)
    return done.returncode


class burning:
    """Runs processes that compute while the block runs. They end with this process, or after two hours."""

    def __init__(self, count):
        self._count = count
        self._processes = []

    def __enter__(self):
        self._processes = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(self._count)]

    def __exit__(self, *_):
        for process in self._processes:
            process.send_signal(signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    main()
