# SPDX-License-Identifier: Apache-2.0
"""Fixtures that start groups of processes.

    def test_names(group):
        group(3, run_names)

runs `run_names(rank, world_size, url)` in three processes and fails the test if one of them raises, dies or takes too
long. What a process prints and raises is part of the failure. Nothing outlives a test.
"""

import faulthandler
import multiprocessing
import multiprocessing.connection
import os
import sys
import time
import traceback

import pytest

PATIENCE = float(os.environ.get("TENDRIL_TEST_PATIENCE", "1"))
"""How many times longer than usual all may take: under a sanitizer, for one."""

LIMIT_SECONDS = 60.0 * PATIENCE
"""How long a group may take, unless a test says otherwise."""

GRACE_SECONDS = 30.0 * PATIENCE
"""How long processes may take to end, and to report once another one has failed."""

LAUNCHER_NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

DUMP_BEFORE_SECONDS = 5.0
"""How long before that its processes show where they are."""


def _child(function, rank, world_size, url, arguments, limit, channel):
    """Runs in each process: reports what the function returned or raised."""
    if limit > 2 * DUMP_BEFORE_SECONDS:
        faulthandler.dump_traceback_later(limit - DUMP_BEFORE_SECONDS, file=sys.__stderr__)
    try:
        result = function(rank, world_size, url, *arguments)
    except BaseException:
        channel.send((False, traceback.format_exc()))
        code = 1
    else:
        channel.send((True, result))
        code = 0
    faulthandler.cancel_dump_traceback_later()
    channel.close()
    sys.stdout.flush()
    sys.stderr.flush()
    # As an ordinary process ends: with the interpreter's own shutdown.
    sys.exit(code)


def _failure(outcome, process, limit):
    """What is wrong with what a process has reported, and how it has ended; "" if nothing is."""
    if outcome is not None and not outcome[0]:
        return outcome[1]
    if process.exitcode is None:
        state = "it has returned" if outcome is not None else f"no result after {limit} s, or after another one failed"
        return f"{state}, and the process has not ended"
    if outcome is None or process.exitcode != 0:
        return f"ended with exit code {process.exitcode}" + ("" if outcome else " and without a result")
    return ""


class Group:
    """Starts processes, gathers what they return, and ends those that are left."""

    def __init__(self, directory):
        self._directory = directory
        self._count = 0
        self._processes = []

    def url(self):
        """A place to meet that nobody has used."""
        self._count += 1
        return f"file://{self._directory}/meeting{self._count}"

    def __call__(self, world_size, function, *arguments, limit=LIMIT_SECONDS, url=None, may_die=()):
        """Runs `function(rank, world_size, url, *arguments)` in `world_size` processes.

        Args:
            function: of a test module, so that processes find it.
            limit: seconds that they may take.
            url: where they meet; by default a new file.
            may_die: ranks that may end without a result.

        Returns:
            What each of them returned, by rank.
        """
        context = multiprocessing.get_context("spawn")
        url = url or self.url()
        members = []
        for rank in range(world_size):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(function, rank, world_size, url, arguments, limit, theirs))
            process.start()
            theirs.close()
            members.append((rank, process, ours))
            self._processes.append(process)
        outcomes = self._gather(members, limit)
        self._await_ends(members)
        failures = [
            f"rank {rank}: {_failure(outcomes.get(rank), process, limit)}"
            for rank, process, _ in members
            if rank not in may_die and _failure(outcomes.get(rank), process, limit)
        ]
        self.end()
        if failures:
            pytest.fail("\n".join(failures), pytrace=False)
        return [outcomes.get(rank, (True, None))[1] for rank in range(world_size)]

    @staticmethod
    def _gather(members, limit):
        """What each process reports, by rank: (whether it is good, what). Others get little time once one fails."""
        deadline = time.monotonic() + limit
        ranks = {channel: rank for rank, _, channel in members}
        outcomes = {}
        while ranks and time.monotonic() < deadline:
            for channel in multiprocessing.connection.wait(list(ranks), deadline - time.monotonic()):
                rank = ranks.pop(channel)
                try:
                    outcomes[rank] = channel.recv()
                except EOFError:
                    continue
                if not outcomes[rank][0]:
                    deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
        return outcomes

    @staticmethod
    def _await_ends(members):
        deadline = time.monotonic() + GRACE_SECONDS
        for _, process, _ in members:
            process.join(max(deadline - time.monotonic(), 0.01))

    def end(self):
        """Ends all processes that are left."""
        for process in self._processes:
            if process.is_alive():
                process.kill()
            process.join()
        self._processes.clear()


@pytest.fixture
def group(tmp_path):
    """Starts groups of processes; see `Group`."""
    groups = Group(tmp_path)
    yield groups
    groups.end()


@pytest.fixture
def alone(tmp_path):
    """This process as the one member "alone" of a group; gives the package `tendril.rpc`."""
    from tendril import rpc

    options = rpc.TensorPipeRpcBackendOptions(init_method=f"file://{tmp_path}/meeting")
    rpc.init_rpc("alone", rank=0, world_size=1, rpc_backend_options=options)
    yield rpc
    if rpc._is_current_rpc_agent_set():
        rpc.shutdown()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    """No test depends on what a launcher has set."""
    for name in list(os.environ):
        if name in LAUNCHER_NAMES or name.startswith(("TORCHELASTIC_", "TENDRIL_")):
            monkeypatch.delenv(name)
