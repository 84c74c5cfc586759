# SPDX-License-Identifier: Apache-2.0
"""tendril store: it says where it is, serves, and ends when told."""

import signal
import subprocess

import command
from command import CommandTest


class Store(CommandTest):
    def open(self, *options):
        process = self.start("store", "--port", "0", *options)
        return process, process.stdout.readline()

    def end(self, process, number=signal.SIGTERM):
        process.send_signal(number)
        out, err = process.communicate(timeout=command.LIMIT)
        self.assertEqual((process.returncode, out), (0, ""), err)
        return err

    def test_address(self):
        process, line = self.open()
        self.assertRegex(line, r"\Atendril: store at 127\.0\.0\.1:\d+\n\Z")
        self.assertEqual(self.end(process), "")

    def test_port_alone(self):
        process, line = self.open("--print-port")
        self.assertRegex(line, r"\A\d+\n\Z")
        self.assertEqual(self.end(process, signal.SIGINT), "")

    def test_serves(self):
        """Two runs, as on two hosts, meet through it."""
        process, port = self.open("--print-port")
        runs = [
            self.start("run", "-n", "2", "--first-rank", str(first), "--world-size", "4", "--store",
                       f"127.0.0.1:{port.strip()}", command.STORE_CLIENT)
            for first in (0, 2)
        ]
        for run, first in zip(runs, (0, 2)):
            out, err = run.communicate(timeout=command.LIMIT)
            self.assertEqual(run.returncode, 0, err)
            self.assertEqual(sorted(out.splitlines()), [f"[{rank}] all 4 are here" for rank in (first, first + 1)])
            self.assertIn("TENDRIL_SECRET is not set", err)
        self.end(process)

    def test_port_in_use(self):
        process, port = self.open("--print-port")
        _, err = self.call("store", "--port", port.strip(), status=1)
        self.assertTrue(err.startswith("tendril: store: "), err)
        self.assertIn("Address already in use", err)
        self.end(process)

    def test_host_that_is_not_loopback(self):
        process, line = self.open("--host", "0.0.0.0")
        self.assertIn("at 0.0.0.0:", line)
        self.assertIn("asks for no proof", self.end(process))

    def test_host_that_is_not_here(self):
        _, err = self.call("store", "--host", "192.0.2.77", "--port", "0", status=1)
        self.assertTrue(err.startswith("tendril: store: "), err)

    def test_bad_ports(self):
        for port in "65536", "-1", "http":
            _, err = self.call("store", "--port", port, status=2)
            self.assertIn("whole number from 0 to 65535", err)

    def test_nobody_to_tell(self):
        """It does not serve where nobody can have learnt its address."""
        with open("/dev/full", "w", encoding="ascii") as full:
            self.call("store", "--port", "0", stdout=full, stderr=subprocess.PIPE, status=1)


if __name__ == "__main__":
    command.main()
