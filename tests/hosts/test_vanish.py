# SPDX-License-Identifier: Apache-2.0
"""Hosts that vanish, for good or for a while."""

import time

import hosts
from hosts import BOUND_MS, Host, HostsTest


class Vanish(HostsTest):
    def start(self):
        self.network()
        self.machines = [Host(number) for number in (1, 2, 3, 4)]
        group = self.group(
            3, self.machines[3].v4(), self.store(self.machines[3]),
            TENDRIL_HEARTBEAT_MS="300", TENDRIL_HEARTBEAT_BOUND_MS=str(BOUND_MS), TENDRIL_CONNECT_TIMEOUT_MS="2000",
        )
        self.members = self.join(self.machines[:3], group)
        return self.members

    def check_gone(self, answer):
        self.assertRegex(answer, "^(TDR_EWORKERGONE|TDR_EUNREACHABLE) .*'worker2'")

    def check_others(self):
        """The others go on, and part without it, being told."""
        for member in self.members[:2]:
            self.assertEqual(member.ask("greet worker0"), "ok worker0")
            self.assertEqual(member.ask("greet worker1"), "ok worker1")
        self.assertEqual(self.members[0].ask("tensor worker1 16"), "ok same")
        for member in self.members[:2]:
            member.say("shutdown")
        for member in self.members[:2]:
            self.check_gone(member.hear())

    def test_while_calls_are_under_way(self):
        """The call fails by the heartbeat's bound, and not by its own timeout, which is far longer."""
        first, second, _ = self.start()
        self.check_calls(self.members)
        first.say("sleep worker2 600000")
        first.say("sleep worker1 500")
        self.machines[2].cut()
        self.assertEqual(second.ask("greet worker0"), "ok worker0")
        first.say("finish")
        self.check_gone(first.hear())
        first.say("finish")
        self.assertEqual(first.hear(), "ok 500")
        self.check_gone(first.ask("greet worker2"))
        self.check_gone(second.ask("greet worker2"))
        self.check_others()

    def test_before_the_first_call(self):
        """A host that nobody has a connection with."""
        first, second, _ = self.start()
        self.machines[2].lose()
        answer = first.ask("greet worker2")
        self.check_gone(answer)
        self.assertEqual(answer.split(" ")[0], "TDR_EUNREACHABLE")
        self.check_gone(second.ask("greet worker2"))
        self.check_others()

    def test_gone_stays_gone(self):
        """A host that comes back is no member any more: its worker is told, and others do not talk to it."""
        first, _, third = self.start()
        self.check_calls(self.members)
        self.machines[2].lose()
        self.check_gone(first.ask("greet worker2"))
        self.machines[2].find()
        self.check_gone(first.ask("greet worker2"))
        self.assertEqual(third.ask("greet worker0").split(" ")[0], "TDR_EWORKERGONE")
        self.assertEqual(third.ask("greet worker2"), "ok worker2")
        self.check_others()

    def check_survived(self, cut, mend):
        """A cut of a second, and calls that cross it: one that runs, and large tensors in both directions."""
        first, second, third = self.start()
        self.check_calls(self.members)
        first.say("sleep worker2 2000")
        first.say("tensor worker2 64")
        third.say("tensor worker0 64")
        cut(self.machines[2])
        self.assertEqual(second.ask("greet worker0"), "ok worker0")
        second.say("greet worker2")
        time.sleep(1)
        mend(self.machines[2])
        for member, answers in ((first, ("ok 2000", "ok same")), (second, ("ok worker2",)), (third, ("ok same",))):
            for answer in answers:
                member.say("finish")
                self.assertEqual(member.hear(), answer, member.log())
        self.check_calls(self.members)
        for member in self.members:
            self.assertEqual(member.logged("lane_broke"), [])
        self.check_end(self.members)

    def test_a_short_cut(self):
        self.check_survived(Host.cut, Host.mend)

    def test_a_short_loss(self):
        self.check_survived(Host.lose, Host.find)


if __name__ == "__main__":
    hosts.main()
