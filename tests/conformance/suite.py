# SPDX-License-Identifier: Apache-2.0
"""PyTorch's own tests of `torch.distributed.rpc`, as the installed torch ships them, run over Tendril.

The test classes are put together as PyTorch's runner does it; here and in every process that a test starts, Tendril
is in the place of `torch.distributed.rpc` before a test module is imported. Run by tools/conformance; a single test:

    TENDRIL_TORCH=1 PYTHONPATH=BUILD/python python3 -m pytest tests/conformance/suite.py -k test_add_with_id

Torch's tests want a package, `expecttest`, for a method that they hardly use; where it is missing a few lines stand
for it.
"""

import importlib.util
import os
import sys
import types
import unittest

import tendril.torch

tendril.torch.install()

if importlib.util.find_spec("expecttest") is None:

    class _TestCase(unittest.TestCase):
        def assertExpectedInline(self, actual, expect, skip=0):
            self.assertEqual(actual, expect)

    _expecttest = types.ModuleType("expecttest")
    _expecttest.TestCase = _TestCase
    _expecttest.ACCEPT = False
    sys.modules["expecttest"] = _expecttest

from torch.testing._internal.distributed.rpc.faulty_rpc_agent_test_fixture import (  # noqa: E402
    FaultyRpcAgentTestFixture,
)
from torch.testing._internal.distributed.rpc.tensorpipe_rpc_agent_test_fixture import (  # noqa: E402
    TensorPipeRpcAgentTestFixture,
)
from torch.testing._internal.distributed.rpc_utils import (  # noqa: E402
    FAULTY_AGENT_TESTS,
    GENERIC_TESTS,
    TENSORPIPE_TESTS,
    generate_tests,
)

globals().update(
    generate_tests("TensorPipe", TensorPipeRpcAgentTestFixture, GENERIC_TESTS + TENSORPIPE_TESTS, __name__)
)
globals().update(generate_tests("Faulty", FaultyRpcAgentTestFixture, FAULTY_AGENT_TESTS, __name__))

if os.environ.get("TENDRIL_CONFORMANCE_FORK") == "1":
    # Quicker, since nobody imports torch anew; not quite what users do.
    import multiprocessing

    from torch.testing._internal.common_distributed import MultiProcessTestCase

    def _fork_processes(self):
        self._start_processes(multiprocessing.get_context("fork").Process)

    MultiProcessTestCase._spawn_processes = _fork_processes
