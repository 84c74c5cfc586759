# SPDX-License-Identifier: Apache-2.0
"""tendril info: the same facts for people and for programs."""

import json
import resource

import command
from command import CommandTest


class Info(CommandTest):
    def facts(self, **environment):
        out, err = self.call("info", "--json", environment=environment)
        return json.loads(out), err

    def test_json(self):
        facts, err = self.facts()
        self.assertEqual(err, "")
        self.assertEqual(f"tendril {facts['version']}\n", self.call("--version")[0])
        self.assertIn({"name": "tcp", "available": True, "reason": None}, facts["transports"])
        self.assertIn({"interface": "lo", "address": "127.0.0.1"}, facts["addresses"])
        self.assertEqual(facts["limits"]["dimensions"], 32)

    def test_options(self):
        options = {option["name"]: option for option in self.facts()[0]["options"]}
        self.assertEqual(options["rpc_timeout_ms"]["variable"], "TENDRIL_RPC_TIMEOUT_MS")
        self.assertEqual(options["rpc_timeout_ms"]["default"], 60000)
        self.assertEqual(options["rpc_timeout_ms"]["unit"], "ms")
        self.assertIsNone(options["init_method"]["default"])

    def test_limits(self):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        out, _ = self.call("info", "--json", preexec_fn=command.resource_limit("NOFILE", 100, hard))
        self.assertEqual(json.loads(out)["limits"]["descriptors"], {"now": 100, "most": hard})

    def test_advertised(self):
        self.assertEqual(self.facts(TENDRIL_ADVERTISE="here.example:77")[0]["advertised"], "here.example")
        self.assertEqual(self.facts(TENDRIL_INTERFACE="lo")[0]["advertised"], "127.0.0.1")

    def test_options_that_are_wrong(self):
        facts, err = self.facts(TENDRIL_THREADS="many")
        self.assertIsNone(facts["advertised"])
        self.assertIn("TENDRIL_THREADS is 'many'", err)

    def test_for_people(self):
        out, _ = self.call("info")
        facts, _ = self.facts()
        for option in facts["options"]:
            self.assertRegex(out, rf"(?m)^  {option['variable']} +\S.* +\S")
        for address in facts["addresses"]:
            self.assertIn(f" {address['address']}", out)


if __name__ == "__main__":
    command.main()
