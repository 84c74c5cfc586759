# SPDX-License-Identifier: Apache-2.0
"""Members on different hosts: which addresses they advertise, and that they reach each other there."""

import re
import sys

import hosts
from hosts import Host, HostsTest, Program

PORT = 29500


class Families(HostsTest):
    def check_group(self, address_of):
        """Two hosts, and a third one for the store."""
        self.network()
        machines = [Host(number) for number in (1, 2, 3)]
        store_address = address_of(machines[2])
        members = self.join(machines[:2], self.group(2, store_address, self.store(machines[2])))
        for member, machine in zip(members, machines):
            address = address_of(machine)
            host = f"[{address}]" if ":" in address else address
            self.assertRegex(member.address(), rf"^tcp://{re.escape(host)}:\d+$")
        self.check_calls(members)
        self.assertEqual(members[0].ask("tensor worker1 64"), "ok same")
        self.check_end(members)

    def test_ipv4(self):
        self.check_group(Host.v4)

    def test_ipv6(self):
        self.check_group(Host.v6)


class StoreOfRank0(HostsTest):
    def check_group(self, machines, address):
        members = self.join(machines, self.group(2, address, PORT, hosted=False))
        self.check_calls(members)
        self.check_end(members)

    def test_ipv4(self):
        self.network()
        first, second = Host(1), Host(2)
        self.check_group([first, second], first.v4())

    def test_ipv6(self):
        self.network()
        first, second = Host(1), Host(2)
        self.check_group([first, second], f"[{first.v6()}]")

    def test_a_host_without_ipv6(self):
        self.network()
        first, second = Host(1, ipv6=False), Host(2)
        self.check_group([first, second], first.v4())


class SeveralInterfaces(HostsTest):
    """Two members that share two networks; the store is in the second."""

    def start(self, address_of=Host.v4, **environment):
        """The first member's address, without the port; everybody must reach everybody there."""
        self.network(1, 2)
        first, second, third = Host(1, (1, 2)), Host(2, (1, 2)), Host(3, (2,))
        hosts.ip("-n", first.name, "link", "add", "bare", "type", "bridge")
        hosts.ip("-n", first.name, "link", "set", "bare", "up")
        group = self.group(2, address_of(third, 2), self.store(third))
        members = self.join([first, second], group, environment)
        self.check_calls(members)
        self.check_end(members)
        self.first = members[0]
        return self.first.address().rsplit(":", 1)[0].removeprefix("tcp://")

    def test_route_to_the_store(self):
        self.assertEqual(self.start(), "10.2.0.1")
        self.assertNotIn(" warn ", self.first.log())

    def test_interface(self):
        self.assertEqual(self.start(TENDRIL_INTERFACE="eth1"), "10.1.0.1")

    def test_interface_takes_the_family_of_the_store(self):
        self.assertEqual(self.start(Host.v6, TENDRIL_INTERFACE="eth1"), "[fd00:1::1]")

    def test_advertise(self):
        self.assertEqual(self.start(TENDRIL_ADVERTISE="10.1.0.1"), "10.1.0.1")

    def test_advertise_ipv6(self):
        self.assertEqual(self.start(TENDRIL_ADVERTISE="fd00:1::1"), "[fd00:1::1]")

    def check_unusable(self, name):
        self.assertEqual(self.start(TENDRIL_INTERFACE=name), "10.2.0.1")
        self.assertEqual(len(self.first.logged("interface_unusable")), 1, self.first.log())

    def test_no_such_interface(self):
        self.check_unusable("eth9")

    def test_interface_without_an_address(self):
        self.check_unusable("bare")


class Forwarded(HostsTest):
    """
    A container as container engines publish its ports: it has a network to itself, and the machine in front of it
    forwards connections to a port of its own. The container cannot reach any address outside.
    """

    def forward(self, gateway, listen, to):
        relay = Program(self, gateway, sys.executable, "-c", RELAY, *map(str, listen), *map(str, to))
        self.assertEqual(relay.hear(), "listening")
        relay.address = f"{listen[0]}:{listen[1]}"
        return relay

    def start(self):
        """A host, and a container behind another host."""
        self.network(1, 2)
        self.outside, self.gateway, self.container = Host(1, (1,)), Host(2, (1, 2)), Host(3, (2,))

    def check_group(self, members, inside, relay):
        self.assertEqual(members[inside].address(), f"tcp://{relay.address}")
        # Connections serve both directions: the container is reached first, and then reaches who did.
        outside = members[1 - inside]
        self.assertEqual(outside.ask(f"greet worker{inside}"), f"ok worker{inside}", outside.log())
        self.assertEqual(relay.hear(), "connection")
        self.check_calls(members)
        self.assertEqual(outside.ask(f"tensor worker{inside} 8"), "ok same")
        self.check_end(members)

    def check_member(self, outside_port, **environment):
        self.start()
        port = self.store(self.outside)
        self.forward(self.gateway, (self.gateway.v4(2), port), (self.outside.v4(1), port))
        relay = self.forward(self.gateway, (self.gateway.v4(1), outside_port), (self.container.v4(2), PORT))
        inside = {"MASTER_ADDR": self.gateway.v4(2), "TENDRIL_ADVERTISE": relay.address, **environment}
        group = self.group(2, self.outside.v4(1), port)
        self.check_group(self.join([self.outside, self.container], group, {}, inside), 1, relay)

    def test_the_same_port(self):
        self.check_member(PORT)

    def test_another_port(self):
        self.check_member(7000, TENDRIL_LISTEN=f"0.0.0.0:{PORT}")

    def test_the_store_inside(self):
        """Rank 0 hosts the store under an address that is not its own, and reaches it there like the others."""
        self.start()
        address = self.gateway.v4(1)
        hosts.ip("-n", self.container.name, "route", "add", f"{address}/32", "via", self.gateway.v4(2))
        self.forward(self.gateway, (address, PORT), (self.container.v4(2), PORT))
        relay = self.forward(self.gateway, (address, 7000), (self.container.v4(2), 7000))
        group = self.group(2, address, PORT, hosted=False)
        inside = {"TENDRIL_ADVERTISE": relay.address}
        self.check_group(self.join([self.container, self.outside], group, inside), 0, relay)


RELAY = """
import socket, sys, threading

def pump(source, sink):
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass

server = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("listening", flush=True)
while True:
    outer, _ = server.accept()
    try:
        inner = socket.create_connection((sys.argv[3], int(sys.argv[4])))
    except OSError:
        outer.close()
        continue
    print("connection", flush=True)
    for ends in ((outer, inner), (inner, outer)):
        threading.Thread(target=pump, args=ends, daemon=True).start()
"""


if __name__ == "__main__":
    hosts.main()
