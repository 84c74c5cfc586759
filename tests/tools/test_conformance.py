#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tools/conformance, with tests of our own in the place of PyTorch's."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
DEADLINE = 200.0

SUITE = """
import os, pathlib, time, unittest

class Good(unittest.TestCase):
    def test_one(self): pass
    def test_two(self): pass

class Bad(unittest.TestCase):
    def test_wrong(self): self.assertEqual(1, 2, "one is not two")
    def test_torn_down(self): self.addCleanup(self.fail, "too late")
    def test_skipped(self): self.skipTest("no device")
    def test_exit(self): os._exit(3)
    def test_hang(self):
        if os.fork() == 0:
            pathlib.Path("hangs").write_text(str(os.getpid()))
        time.sleep(1000)
    def test_last(self): pass
"""
PEER = """
PASSED Good::test_one
PASSED Good::test_two
FAILED Bad::test_wrong
PASSED Bad::test_torn_down
SKIPPED Bad::test_skipped
PASSED Bad::test_exit
PASSED Bad::test_hang
PASSED Bad::test_last
"""
EXPECTED = """# What has to pass.

[Bad]
test_last 3.5

[Good]
test_one 2.0
test_two
"""
DOCS = """# Conformance
## What is wrong
```
[Bad]
test_wrong test_torn_down
test_exit test_hang
```
## What needs a device
```
[Bad]
test_skipped
```
"""


def has_ended(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except FileNotFoundError:
        return True


def wait_for(condition):
    """What it gives, as soon as it is true."""
    until = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError("it does not become true")
        time.sleep(0.02)
    return condition()


class Conformance(unittest.TestCase):
    def setUp(self):
        self.top = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.top)
        for folder in ("tools", "docs", "tests/conformance", "build/python/tendril"):
            (self.top / folder).mkdir(parents=True)
        tool = (TOP / "tools" / "conformance").read_text()
        self.write("tools/conformance", tool.replace("GRACE_SECONDS = 60", "GRACE_SECONDS = 0"))
        shutil.copy(TOP / "tests" / "conformance" / "conftest.py", self.top / "tests" / "conformance")
        self.write("tests/conformance/suite.py", SUITE)
        self.write("tests/conformance/peer.txt", PEER)
        self.write("tests/conformance/expected.txt", EXPECTED)
        self.write("docs/conformance.md", DOCS)

    def write(self, name, text):
        (self.top / name).write_text(text)

    def command(self, *options):
        return [sys.executable, self.top / "tools" / "conformance", self.top / "build", *options]

    def run_tool(self, *options):
        """Its exit status, and its output."""
        done = subprocess.run(
            self.command(*options), check=False, timeout=DEADLINE, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.returncode, done.stdout

    def outcomes(self):
        tests = json.loads((self.top / "build" / "conformance.json").read_text())["tests"]
        for result in tests.values():
            self.assertEqual(list(result), ["outcome", "seconds"])
        return {name: result["outcome"] for name, result in tests.items()}

    def test_what_is_expected_passes(self):
        status, output = self.run_tool()
        self.assertEqual(status, 0, output)
        names = ("Bad::test_last", "Good::test_one", "Good::test_two")
        self.assertEqual(self.outcomes(), dict.fromkeys(names, "passed"))
        self.assertIn("[3/3] passed", output)
        self.assertRegex(output, r"(?m)^class +tests +peer passes +expected +run +passed$")
        self.assertRegex(output, r"(?m)^all +8 +6 +3 +3 +3$")
        self.assertEqual(output.splitlines()[-1], "3 passed, 0 failed, 0 skipped, 0 not run")

    def test_whatever_a_test_does_the_others_run(self):
        status, output = self.run_tool("--all", "--limit", "15")
        self.assertEqual(status, 0, output)
        self.assertEqual(
            self.outcomes(),
            {
                "Bad::test_exit": "error",
                "Bad::test_hang": "timeout",
                "Bad::test_last": "passed",
                "Bad::test_skipped": "skipped",
                "Bad::test_torn_down": "failed",
                "Bad::test_wrong": "failed",
                "Good::test_one": "passed",
                "Good::test_two": "passed",
            },
        )
        self.assertIn("one is not two", (self.top / "build" / "conformance" / "Bad.test_wrong.log").read_text())
        self.assertEqual(output.splitlines()[-1], "3 passed, 4 failed, 1 skipped, 0 not run")
        pid = int((self.top / "build" / "conformance" / "hangs").read_text())
        wait_for(lambda: has_ended(pid))

    def test_one_that_has_to_pass_and_does_not(self):
        for name in ("test_wrong", "test_skipped", "test_exit"):
            self.write("tests/conformance/expected.txt", f"[Good]\ntest_one\n[Bad]\n{name}\n")
            status, output = self.run_tool()
            self.assertEqual(status, 1, output)
            self.assertIn(f"expected to pass: Bad::{name}: {self.outcomes()[f'Bad::{name}']}", output)

    def test_interrupted_it_leaves_nothing_behind(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            process = subprocess.Popen(
                self.command("--jobs", "1", "-k", "Good|hang"), text=True, stdout=subprocess.PIPE,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )  # fmt: skip
            with process:
                hangs = self.top / "build" / "conformance" / "hangs"
                pid = int(wait_for(lambda: hangs.exists() and hangs.read_text()))
                hangs.unlink()
                process.send_signal(number)
                output = process.communicate(timeout=DEADLINE)[0]
            self.assertEqual(process.returncode, 130, output)
            self.assertEqual(output.splitlines()[-1], "2 passed, 0 failed, 0 skipped, 1 not run")
            self.assertEqual(set(self.outcomes().values()), {"passed"})
            wait_for(lambda: has_ended(pid))
            self.assertEqual(os.listdir(hangs.parent), [])

    def test_outcomes_are_kept_until_told_otherwise(self):
        self.run_tool("-k", "test_wrong")
        self.run_tool("-k", "test_one")
        self.assertEqual(self.outcomes(), {"Bad::test_wrong": "failed", "Good::test_one": "passed"})
        self.run_tool("-k", "test_two", "--fork")
        self.assertNotIn("Good::test_two", self.outcomes())
        self.run_tool("-k", "test_two", "--fresh")
        self.assertEqual(self.outcomes(), {"Good::test_two": "passed"})

    def test_the_fastest(self):
        self.assertEqual(self.run_tool("--list")[1].split(), ["Good::test_two", "Bad::test_last", "Good::test_one"])
        self.assertEqual(self.run_tool("--list", "--fastest", "2")[1].split(), ["Bad::test_last", "Good::test_one"])

    def test_what_has_passed_becomes_expected(self):
        path = self.top / "tests" / "conformance" / "expected.txt"
        path.write_text("# What has to pass.\n\n[Good]\ntest_one 7.0\n")
        status, output = self.run_tool("-k", "test_two|one|wrong", "--update-expected")
        self.assertEqual(status, 0, output)
        self.assertEqual(path.read_text(), "# What has to pass.\n\n[Good]\ntest_one 7.0\ntest_two 10.0\n")
        self.run_tool("-k", "test_two|last", "--fork", "--update-expected")
        self.assertRegex(path.read_text(), r"\A# What has to pass\.\n\n\[Good\]\ntest_one 7\.0\ntest_two \d\.\d\n\Z")

    def test_without_a_build(self):
        shutil.rmtree(self.top / "build")
        status, output = self.run_tool()
        self.assertEqual(status, 2)
        self.assertIn("make build", output)

    def test_the_document_names_what_is_left_out(self):
        self.assertEqual(self.run_tool("--check-docs"), (0, ""))
        cases = {
            "test_exit is left out for no reason": ("test_exit", ""),
            "test_last is left out (What is wrong), but expected to pass": ("test_exit", "test_exit test_last"),
            "test_gone is left out (What is wrong), but there is no such test": ("test_exit", "test_exit test_gone"),
            "test_exit is left out twice: What is wrong; What needs a device": ("skipped", "skipped test_exit"),
        }
        for fault, (old, new) in cases.items():
            self.write("docs/conformance.md", DOCS.replace(old, new))
            self.assertEqual(self.run_tool("--check-docs"), (1, f"docs/conformance.md: Bad::{fault}\n"))


if __name__ == "__main__":
    unittest.main()
