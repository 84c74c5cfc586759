# SPDX-License-Identifier: Apache-2.0
"""Messages that fail or come late on purpose, and what callers see of it."""

import time

import pytest

from tendril import rpc
from tendril.rpc import _testing

CONTROL = ["RREF_FORK_REQUEST", "RREF_CHILD_ACCEPT", "RREF_USER_DELETE", "CLEANUP_AUTOGRAD_CONTEXT_REQ"]
TIMEOUT = "RPC ran for more than"
CREATION = "RRef creation via rpc.remote() timed out"


def join(rank, world_size, url, fail=CONTROL, delay=None):
    backend = rpc.BackendType.FAULTY_TENSORPIPE
    options = rpc.construct_rpc_backend_options(
        backend,
        init_method=url,
        num_worker_threads=8,
        messages_to_fail=list(fail),
        messages_to_delay=delay or {},
        num_fail_sends=3,
    )
    rpc.init_rpc(f"worker{rank}", backend, rank, world_size, options)
    assert isinstance(rpc._get_current_rpc_agent(), _testing.FaultyTensorPipeAgent)


def raised(kind, function, *args, **kwargs):
    with pytest.raises(kind) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def await_counters(**values):
    deadline = time.monotonic() + 20
    while any(rpc._rref_context_get_debug_info()[name] != str(value) for name, value in values.items()):
        assert time.monotonic() < deadline, rpc._rref_context_get_debug_info()
        time.sleep(0.01)


def run_dropped_creation(rank, world_size, url):
    rpc.api._ignore_rref_leak = False
    join(rank, world_size, url, fail=["PYTHON_REMOTE_CALL"])
    for to in ((rank + 1) % world_size, rank):
        rref = rpc.remote(to, max, args=(to, rank))
        await_counters(num_pending_futures=0, num_pending_users=0)
        assert CREATION in raised(RuntimeError, rref.to_here)
        assert CREATION in raised(RuntimeError, rpc.rpc_sync, to, id, args=(rref,))
    rpc.shutdown()


def test_dropped_creation(group):
    group(2, run_dropped_creation)


def run_delays(rank, world_size, url):
    rpc.api._ignore_rref_leak = False
    join(rank, world_size, url, fail=[], delay={"PYTHON_CALL": 0.5})
    peer = (rank + 1) % world_size
    assert TIMEOUT in raised(RuntimeError, rpc.rpc_sync, peer, max, args=(1, 2), timeout=0.1)
    assert rpc.rpc_sync(peer, max, args=(1, 2), timeout=0) == 2
    rpc.shutdown()


def test_delays(group):
    group(2, run_delays)


def run_control(rank, world_size, url):
    rpc.api._ignore_rref_leak = False
    join(rank, world_size, url)
    rref = rpc.remote((rank + 1) % world_size, max, args=(1, rank))
    assert rpc.rpc_sync((rank + 2) % world_size, fetch, args=(rref,)) == max(1, rank)
    del rref
    rpc._get_current_rpc_agent()._native.barrier()
    rpc.api._delete_all_user_and_unforked_owner_rrefs()
    rpc.shutdown()


def fetch(rref):
    return rref.to_here()


def test_messages_of_references_get_through(group):
    group(3, run_control)
