#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A seed says all: two processes, unlike in addresses and hashes, go through the same. A failure says how to see it."""

import subprocess
import sys
import unittest

SIM, MUTANT = sys.argv[1:3]


def run(program: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=100, check=False)


class Replay(unittest.TestCase):
    def test_same_seed_same_run(self) -> None:
        first, second = (run(SIM, "--seeds", "40", "--hash") for _ in range(2))
        self.assertEqual(first.returncode, 0, first.stdout)
        self.assertEqual(first.stdout, second.stdout)
        lines = first.stdout.splitlines()[:40]
        self.assertEqual(len({line.split()[1] for line in lines}), 40)

    def test_one_seed_alone_is_as_among_others(self) -> None:
        among = run(SIM, "--first", "5", "--seeds", "10", "--hash").stdout.splitlines()[3]
        alone = run(SIM, "--seed", "8", "--hash").stdout.splitlines()[0]
        self.assertEqual(among, alone)

    def test_failure_says_how_to_see_it(self) -> None:
        result = run(MUTANT, "--seeds", "100")
        self.assertEqual(result.returncode, 1)
        report = result.stdout.splitlines()
        self.assertRegex(report[-2], r"^seed \d+ failed at step \d+, \d+ ms: \w+: ")
        self.assertRegex(report[-1], r"make sim SEED=\d+ TRACE=1$")
        self.assertGreater(len(report), 20)

    def test_trace(self) -> None:
        result = run(SIM, "--seed", "3", "--trace", "--steps", "100")
        self.assertEqual(result.returncode, 0)
        self.assertIn("joins as worker", result.stdout)

    def test_help_and_bad_options(self) -> None:
        self.assertIn("--seeds N", run(SIM, "--help").stdout)
        self.assertEqual(run(SIM, "--nonsense").returncode, 2)
        self.assertEqual(run(SIM, "--seeds", "-3").returncode, 2)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
