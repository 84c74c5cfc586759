# SPDX-License-Identifier: Apache-2.0
"""What the tests of the command share: starting it, and proving that it left no process behind.

Every process that a test starts inherits a variable with a value of the test's own, by which it is found in /proc.
"""

import os
import resource
import signal
import subprocess
import sys
import time
import unittest
import uuid

TENDRIL = sys.argv[1]
STORE_CLIENT = sys.argv[2]
LIMIT = 120  # seconds for whatever should take one or two


def wait_until(predicate, what):
    """Waits until `predicate` is true; fails, saying `what`, when it does not become so."""
    end = time.monotonic() + LIMIT
    while not predicate():
        if time.monotonic() > end:
            raise AssertionError(f"it did not come to this: {what}")
        time.sleep(0.01)


def process_state(pid):
    """The letter in /proc/PID/stat, or None where there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return None


def resource_limit(name, soft, hard=None):
    """For preexec_fn: lowers a limit."""
    return lambda: resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (soft, soft if hard is None else hard))


class CommandTest(unittest.TestCase):
    def setUp(self):
        self.mark = f"TENDRIL_TEST_MARK={uuid.uuid4()}"
        name, value = self.mark.split("=")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("TENDRIL_")}
        self.environment.pop("NO_COLOR", None)
        self.environment[name] = value
        self.started = []

    def tearDown(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        left = self.marked()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.assertEqual(left, [], "processes were left behind")

    def marked(self):
        """The processes of this test that live."""
        found = []
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                with open(f"/proc/{name}/environ", "rb") as environ:
                    if self.mark.encode() in environ.read() and process_state(name) not in (None, "Z"):
                        found.append(int(name))
            except OSError:
                pass
        return found

    def start(self, *arguments, environment=None, **options):
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        process = subprocess.Popen(
            [TENDRIL, *arguments], env={**self.environment, **(environment or {})}, text=True, **options
        )
        self.started.append(process)
        return process

    def call(self, *arguments, status=0, text=None, **options):
        """Runs the command to its end. Returns what it wrote to standard output and to standard error."""
        if text is not None:
            options["stdin"] = subprocess.PIPE
        process = self.start(*arguments, **options)
        out, err = process.communicate(text, timeout=LIMIT)
        self.assertEqual(process.returncode, status, f"{arguments}: {out}{err}")
        return out, err

    def run_shell(self, ranks, script, *options, **more):
        return self.call("run", "-n", str(ranks), *options, "--", "sh", "-c", script, **more)

    def start_shell(self, ranks, script, *options, **more):
        return self.start("run", "-n", str(ranks), *options, "--", "sh", "-c", script, **more)

    def read_lines(self, process, count):
        return [process.stdout.readline().rstrip("\n") for _ in range(count)]


def main():
    # A shell has what it runs in the background ignore some of these, nohup another; and whom we start would too.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    unittest.main(argv=sys.argv[:1], verbosity=2)
