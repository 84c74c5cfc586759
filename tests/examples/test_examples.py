# SPDX-License-Identifier: Apache-2.0
"""Runs one example through `tendril run`, and checks what it prints.

    test_examples.py NAME TENDRIL EXAMPLES_DIRECTORY DIGITS_CSV
"""

import collections
import os
import re
import shutil
import subprocess
import sys

NAME, TENDRIL, EXAMPLES, DIGITS = sys.argv[1:5]


def run(ranks, *command):
    """The lines that all ranks printed, without the prefixes; fails where the run does."""
    result = subprocess.run(
        [TENDRIL, "run", "-n", str(ranks), "--timeout", "240", "--", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=280, check=False,
    )
    if result.returncode != 0:
        sys.exit(f"exit status {result.returncode}\n{result.stdout}{result.stderr}")
    return [re.sub(r"^\[\d+\] ?", "", line) for line in result.stdout.splitlines()]


def check(condition, lines):
    if not condition:
        sys.exit("not what was expected:\n" + "\n".join(lines))


def hello():
    lines = run(4, f"{EXAMPLES}/hello")
    greetings = collections.Counter(lines)
    expected = {f"hello worker{a}, this is worker{b}" for a in range(4) for b in range(4)}
    check(set(greetings) == expected and all(count == 1 for count in greetings.values()), lines)


def ring():
    lines = run(3, f"{EXAMPLES}/ring", "1000")
    check(lines == ["1000 hops, through 1001 workers' functions, ended at worker1"], lines)


def scatter():
    lines = run(4, f"{EXAMPLES}/scatter")
    check(lines == ["4 workers summed 1000000 numbers: 499999500000 (expected 499999500000)"], lines)


def digits():
    lines = run(3, f"{EXAMPLES}/digits", DIGITS)
    accuracy = re.search(r"accuracy ([0-9.]+)$", lines[-1])
    check(accuracy and float(accuracy.group(1)) >= 0.90, lines)
    check(any(line.startswith("version ") for line in lines), lines)
    check(sum(line.startswith(("ps ", "trainer")) for line in lines) == 3, lines)


def valgrind():
    if not shutil.which("valgrind"):
        sys.exit(77)
    run(3, "valgrind", "--quiet", "--leak-check=full", "--show-leak-kinds=definite,possible",
        "--errors-for-leak-kinds=definite,possible", "--error-exitcode=9", f"{EXAMPLES}/digits", DIGITS, "2")


os.environ.pop("TENDRIL_LOG", None)
globals()[NAME]()
