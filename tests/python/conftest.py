# SPDX-License-Identifier: Apache-2.0
"""Fixtures that start groups of processes.

    def test_names(group):
        group(3, run_names)

runs `run_names(rank, world_size, url)` in three processes and fails the test if one of them raises, dies or takes too
long. What a process prints and raises is part of the failure. Nothing outlives a test.
"""

import faulthandler
import multiprocessing
import os
import sys
import time
import traceback

import pytest

LIMIT_SECONDS = 60.0
"""How long a group may take, unless a test says otherwise."""

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
        deadline = time.monotonic() + limit
        results, failures = [None] * world_size, []
        for rank, process, channel in members:
            try:
                if not channel.poll(max(deadline - time.monotonic(), 0.0)):
                    failures.append(f"rank {rank} has not ended after {limit} s")
                    continue
                good, result = channel.recv()
            except EOFError:
                process.join(max(deadline - time.monotonic(), 0.1))
                if rank not in may_die:
                    failures.append(f"rank {rank} ended with exit code {process.exitcode} and without a result")
                continue
            if good:
                results[rank] = result
            else:
                failures.append(f"rank {rank}:\n{result}")
        for rank, process, _ in members:
            process.join(max(deadline - time.monotonic(), 0.1))
            if process.exitcode is None:
                failures.append(f"rank {rank} has returned, and its process has not ended")
            elif process.exitcode != 0 and rank not in may_die and not failures:
                failures.append(f"rank {rank} ended with exit code {process.exitcode}")
        self.end()
        if failures:
            pytest.fail("\n".join(failures), pytrace=False)
        return results

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
