# SPDX-License-Identifier: Apache-2.0
"""Tells tools/conformance what becomes of each test, one JSON object a line, in the file TENDRIL_CONFORMANCE_REPORT.

Without that pytest collects nothing here, so that a run over all of tests/ leaves torch's tests alone.
"""

import json
import os

REPORT = os.environ.get("TENDRIL_CONFORMANCE_REPORT")

collect_ignore = [] if REPORT or os.environ.get("TENDRIL_TORCH") == "1" else ["suite.py"]

_failed = {}
_seconds = {}


def _write(**entry):
    if REPORT:
        with open(REPORT, "a") as file:
            file.write(json.dumps(entry) + "\n")


def pytest_runtest_logreport(report):
    """Called for the set-up, the body and the tear-down of each test."""
    name = report.nodeid.split("::", 1)[1]
    _seconds[name] = _seconds.get(name, 0.0) + report.duration
    if report.outcome != "passed":
        text = report.longreprtext + "".join(f"\n---- {title} ----\n{body}" for title, body in report.sections)
        _failed.setdefault(name, (report.outcome, text))
    if report.when == "teardown":
        outcome, text = _failed.pop(name, ("passed", ""))
        _write(name=name, outcome=outcome, text=text, seconds=_seconds.pop(name))
