# SPDX-License-Identifier: Apache-2.0
"""What the tests over several hosts share: hosts made as network namespaces, and members of a group on them.

The test starts itself again in namespaces of its own (network, mounts, processes), in which it makes the hosts. So it
can touch nothing else of the machine, needs no unique names, and when it ends, however it ends, the kernel removes all
that it made. Where that is not possible it is skipped.
"""

import itertools
import os
import pathlib
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
import unittest

TENDRIL, MEMBER, HELLO = sys.argv[1:4]
LIMIT = 120  # seconds for whatever should take a few

ISOLATED = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
NEEDED = (
    "mount -t tmpfs none /run && ip link add veth1 type veth peer name veth2 && ip link add lan1 type bridge && "
    "ip netns add host1 && ip -6 addr add fd00::1 dev lo"
)
BOUND_MS = 6000  # of heartbeats, where a test waits for a host to be taken for gone


def ip(*arguments):
    """Runs ip(8); what it prints."""
    return subprocess.run(["ip", *arguments], check=True, stdout=subprocess.PIPE, text=True, timeout=LIMIT).stdout


def wait_until(predicate, what):
    """Waits until `predicate` is true; fails, saying `what`, when it does not become so."""
    end = time.monotonic() + LIMIT
    while not predicate():
        if time.monotonic() > end:
            raise AssertionError(f"it did not come to this: {what}")
        time.sleep(0.02)


class Network:
    """Networks for hosts, 10.LAN.0.0/24 and fd00:LAN::/64: each is a bridge, in a namespace of the bridges' own."""

    def __init__(self, lans):
        ip("netns", "add", "switch")
        for lan in lans:
            # Without snooping, which may hold back the questions for neighbours of IPv6.
            ip("-n", "switch", "link", "add", f"lan{lan}", "type", "bridge", "mcast_snooping", "0")
            ip("-n", "switch", "link", "set", f"lan{lan}", "up")

    def close(self):
        # The links first: what uses a namespace may keep it for a moment after its name is gone.
        for host in ip("netns", "list").split("\n")[:-1]:
            name = host.split()[0]
            links = ip("-n", name, "-o", "link", "show", "type", "veth")
            for link in re.findall(r"^\d+: ([^@:]+)", links, re.MULTILINE):
                ip("-n", name, "link", "del", link)
            ip("netns", "del", name)


class Host:
    """A host with an interface `ethLAN` on each of its networks, whose addresses end in its number."""

    def __init__(self, number, lans=(1,), ipv6=True):
        self.number = number
        self.name = f"host{number}"
        ip("netns", "add", self.name)
        if not ipv6:
            self.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
        ip("-n", self.name, "link", "set", "lo", "up")
        for lan in lans:
            port = self.port(lan)
            ip("-n", "switch", "link", "add", port, "type", "veth", "peer", "name", f"eth{lan}", "netns", self.name)
            ip("-n", "switch", "link", "set", port, "master", f"lan{lan}", "up")
            ip("-n", self.name, "addr", "add", f"{self.v4(lan)}/24", "dev", f"eth{lan}")
            if ipv6:
                ip("-n", self.name, "addr", "add", f"{self.v6(lan)}/64", "dev", f"eth{lan}", "nodad")
            ip("-n", self.name, "link", "set", f"eth{lan}", "up")

    def v4(self, lan=1):
        return f"10.{lan}.0.{self.number}"

    def v6(self, lan=1):
        return f"fd00:{lan}::{self.number}"

    def port(self, lan):
        return f"port{self.number}-{lan}"

    def cut(self, lan=1):
        """Pulls the plug: the host sees that its link is down, the others only that nothing comes."""
        ip("-n", "switch", "link", "set", self.port(lan), "down")

    def mend(self, lan=1):
        ip("-n", "switch", "link", "set", self.port(lan), "up")

    def lose(self, lan=1):
        """Loses every packet in both directions, which nobody can see."""
        ip("-n", "switch", "link", "set", self.port(lan), "nomaster")

    def find(self, lan=1):
        ip("-n", "switch", "link", "set", self.port(lan), "master", f"lan{lan}")

    def command(self, *arguments):
        return ["nsenter", f"--net=/run/netns/{self.name}", "--", *arguments]

    def run(self, *arguments):
        subprocess.run(self.command(*arguments), check=True, timeout=LIMIT)


class Program:
    """A program on a host. What it says is read line by line; what it logs is kept in a file."""

    def __init__(self, test, host, *arguments, **environment):
        self.log_path = pathlib.Path(test.directory) / f"log{next(test.counter)}"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                host.command(*arguments), env={**test.environment, **environment}, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        test.addCleanup(self.kill)

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self):
        """The next line; fails where none comes."""
        try:
            line = self.lines.get(timeout=LIMIT)
        except queue.Empty:
            line = None
        if line is None:
            raise AssertionError(f"nothing more came; its log:\n{self.log()}")
        return line

    def hear_all(self):
        """All lines up to its end, which must be a good one."""
        lines = list(iter(lambda: self.lines.get(timeout=LIMIT), None))
        if self.process.wait(LIMIT) != 0:
            raise AssertionError(f"exit status {self.process.returncode}: {lines}; its log:\n{self.log()}")
        return lines

    def log(self):
        return self.log_path.read_text(errors="replace")

    def logged(self, event):
        """The lines of one event in its log."""
        return [line for line in self.log().splitlines() if f"event={event} " in line]

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(LIMIT)
        self.reader.join(LIMIT)
        self.process.stdin.close()
        self.process.stdout.close()


class Member(Program):
    """The program in member.c."""

    def __init__(self, test, host, rank, group, **environment):
        super().__init__(test, host, MEMBER, f"worker{rank}", RANK=str(rank), **{**group, **environment})

    def address(self):
        """What it advertises."""
        return re.search(r" address=(\S+)", self.logged("joined")[0]).group(1)

    def ask(self, line):
        """Starts a call and waits for its answer."""
        self.say(line)
        self.say("finish")
        return self.hear()

    def end(self, how="shutdown"):
        self.say(how)
        answer = self.hear()
        self.process.wait(LIMIT)
        return answer


class HostsTest(unittest.TestCase):
    def setUp(self):
        self.counter = itertools.count()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("TENDRIL_")}
        self.environment["TENDRIL_LOG"] = "info"
        self.environment["TENDRIL_RPC_TIMEOUT_MS"] = str(LIMIT * 1000)

    def network(self, *lans):
        network = Network(lans or (1,))
        self.addCleanup(network.close)

    def group(self, size, address, port, hosted=True, **more):
        """The environment of a group whose store is there, or which rank 0 hosts."""
        group = {"WORLD_SIZE": str(size), "MASTER_ADDR": address, "MASTER_PORT": str(port), **more}
        if hosted:
            group["TENDRIL_STORE_HOSTED"] = "1"
        return group

    def store(self, host, address="::"):
        """Hosts a store; its port."""
        return int(Program(self, host, TENDRIL, "store", "--host", address, "--port", "0", "--print-port").hear())

    def join(self, hosts, group, *environments):
        """A member on each of the hosts."""
        own = itertools.chain(environments, itertools.repeat({}))
        members = [Member(self, host, rank, group, **more) for rank, (host, more) in enumerate(zip(hosts, own))]
        for member in members:
            self.assertEqual(member.hear(), "joined", member.log())
        return members

    def check_calls(self, members):
        """Everybody reaches everybody."""
        for member in members:
            for rank in range(len(members)):
                self.assertEqual(member.ask(f"greet worker{rank}"), f"ok worker{rank}", member.log())

    def check_end(self, members):
        for member in members:
            member.say("shutdown")
        for member in members:
            self.assertEqual(member.hear().strip(), "ok", member.log())
            self.assertEqual(member.process.wait(LIMIT), 0, member.log())


def isolate():
    """Starts the test again where it may make hosts; exits with 77 where that cannot be."""
    if "TENDRIL_TEST_ISOLATED" in os.environ:
        subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
        return
    reason = ""
    for more in ([], ["--user", "--map-root-user"]):
        try:
            probe = subprocess.run([*ISOLATED, *more, "sh", "-c", NEEDED], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True, timeout=LIMIT, check=False)
        except OSError as error:
            reason = str(error)
            break
        if probe.returncode == 0:
            os.environ["TENDRIL_TEST_ISOLATED"] = "1"
            os.execvp(ISOLATED[0], [*ISOLATED, *more, sys.executable, *sys.argv])
        reason = probe.stderr.strip()
    print(f"skipped: hosts cannot be made here: {reason}")
    sys.exit(77)


def main():
    isolate()
    unittest.main(argv=sys.argv[:1], verbosity=2)
