# SPDX-License-Identifier: Apache-2.0
"""tendril run on two hosts, as its manual page says."""

import collections

import hosts
from hosts import HELLO, TENDRIL, Host, HostsTest, Program

PORT = "29500"
RANKS = 2  # on each host


class Run(HostsTest):
    def start(self, machine, *arguments):
        options = ["-n", str(RANKS), "--world-size", str(2 * RANKS), "--no-prefix", *arguments]
        return Program(self, machine, TENDRIL, "run", *options, "--", HELLO)

    def check(self, runs):
        """Each rank has greeted each."""
        everybody = range(2 * RANKS)
        said = collections.Counter(line for run in runs for line in run.hear_all())
        self.assertEqual(said, {f"hello worker{a}, this is worker{b}": 1 for a in everybody for b in everybody})

    def test_the_first_host_has_the_store(self):
        self.network()
        first, second = Host(1), Host(2)
        self.check([
            self.start(first, "--master-addr", first.v4(), "--master-port", PORT),
            self.start(second, "--first-rank", str(RANKS), "--store", f"{first.v4()}:{PORT}"),
        ])

    def test_ipv6(self):
        self.network()
        first, second = Host(1), Host(2)
        self.check([
            self.start(first, "--master-addr", first.v6(), "--master-port", PORT),
            self.start(second, "--first-rank", str(RANKS), "--store", f"[{first.v6()}]:{PORT}"),
        ])

    def test_a_third_host_has_the_store(self):
        self.network()
        first, second, third = Host(1), Host(2), Host(3)
        store = f"{third.v4()}:{self.store(third)}"
        self.check([
            self.start(first, "--store", store),
            self.start(second, "--first-rank", str(RANKS), "--store", store),
        ])


if __name__ == "__main__":
    hosts.main()
