# SPDX-License-Identifier: Apache-2.0
"""Backends by name, and what `init_rpc` finds wrong before it meets anyone."""

import pickle
from unittest import mock

import pytest

import tendril.autograd
from tendril import rpc
from tendril.rpc import _testing, backend_registry

FAULTY = {
    "num_worker_threads": 8,
    "messages_to_fail": ["RREF_FORK_REQUEST"],
    "messages_to_delay": {"PYTHON_CALL": 1.5},
    "num_fail_sends": 3,
}


class StubOptions(rpc.RpcBackendOptions):
    def __init__(self, init_method):
        rpc.RpcBackendOptions.__init__(self)
        self.init_method = init_method


class StubAgent:
    def get_worker_infos(self):
        return {rpc.WorkerInfo(name="worker0", id=0)}


@pytest.fixture
def stub():
    """A backend whose agents do nothing."""
    member = rpc.backend_registry.register_backend(
        "stub", lambda rpc_timeout, init_method, **kwargs: StubOptions(init_method), lambda **kwargs: StubAgent()
    )
    yield member
    del backend_registry._Registry._backends["stub"]


def test_tensorpipe_is_there():
    assert repr(rpc.BackendType.TENSORPIPE) == "BackendType.TENSORPIPE"
    assert rpc.BackendType["TENSORPIPE"] is rpc.BackendType.TENSORPIPE
    assert rpc.backend_registered("TENSORPIPE")
    assert not rpc.backend_registered("nothing")
    with pytest.raises(AttributeError, match="TENSORPIPE"):
        rpc.BackendType.NOTHING  # noqa: B018


def test_registering(stub):
    assert stub in rpc.BackendType
    assert rpc.BackendType.stub is stub
    assert rpc.backend_registry.BackendType["stub"] is stub
    assert isinstance(stub, rpc.BackendType)
    assert isinstance(rpc.BackendType.TENSORPIPE, rpc.backend_registry.BackendType)
    assert pickle.loads(pickle.dumps(stub)) is stub
    with pytest.raises(RuntimeError, match="^RPC backend .+: already registered$"):
        rpc.register_backend("stub", None, None)


def test_agent_of_a_registered_backend_becomes_the_current_one(stub, tmp_path):
    url = f"file://{tmp_path}/meeting"
    with mock.patch.object(tendril.autograd, "_init") as init_autograd, mock.patch.object(
        rpc.api, "_set_and_start_rpc_agent"
    ) as set_agent:
        rpc.init_rpc(
            "worker0",
            backend=stub,
            rank=0,
            world_size=1,
            rpc_backend_options=rpc.construct_rpc_backend_options(stub, init_method=url),
        )
    init_autograd.assert_called_once_with(0)
    set_agent.assert_called_once()
    assert isinstance(set_agent.call_args.args[0], StubAgent)
    assert rpc.api._ALL_WORKER_NAMES == {"worker0"}


def test_backend_is_found_by_its_options(stub, caplog):
    assert rpc._infer_backend(rpc.TensorPipeRpcBackendOptions()) is rpc.BackendType.TENSORPIPE
    assert not caplog.records
    assert rpc._infer_backend(StubOptions("env://")) is stub
    assert "without a backend" in caplog.text


def test_foreign_options():
    with pytest.raises(TypeError, match="Could not infer backend for options"):
        rpc.init_rpc("a", rank=0, world_size=1, rpc_backend_options=StubOptions("env://"))


def test_wrong_types():
    with pytest.raises(TypeError, match="Argument backend must be a member of BackendType"):
        rpc.init_rpc("a", rank=0, world_size=1, backend="TENSORPIPE")
    with pytest.raises(TypeError, match="Argument rpc_backend_options must be an instance of RpcBackendOptions"):
        rpc.init_rpc("a", rank=0, world_size=1, rpc_backend_options={"init_method": "env://"})


def test_mismatched_options(tmp_path):
    with pytest.raises(TypeError, match="`rpc_backend_options` must be a `TensorPipeRpcBackendOptions`"):
        rpc.init_rpc(
            "a",
            rank=0,
            world_size=1,
            backend=rpc.BackendType.TENSORPIPE,
            rpc_backend_options=rpc.RpcBackendOptions(init_method=f"file://{tmp_path}/meeting"),
        )
    assert not rpc._is_current_rpc_agent_set()


def test_arguments_of_init_rpc_backend():
    with pytest.raises(RuntimeError, match="Argument 5 must be of type .* but got type <class 'int'>"):
        rpc._init_rpc_backend(rpc.BackendType.TENSORPIPE, 5, "a", 0, 1, rpc.TensorPipeRpcBackendOptions())


def test_unknown_options_of_tensorpipe_are_ignored():
    made = rpc.construct_rpc_backend_options(
        rpc.BackendType.TENSORPIPE, rpc_timeout=5, init_method="x://", num_worker_threads=3, unknown=True
    )
    assert (made.rpc_timeout, made.init_method, made.num_worker_threads) == (5, "x://", 3)


# ---- the backend that fails on purpose ----


def test_faulty_options():
    made = rpc.construct_rpc_backend_options(rpc.BackendType["FAULTY_TENSORPIPE"], **FAULTY)
    assert isinstance(made, _testing.FaultyTensorPipeRpcBackendOptions)
    assert made.messages_to_fail == ["RREF_FORK_REQUEST"]
    assert made.messages_to_delay == {"PYTHON_CALL": 1.5}
    assert made.num_fail_sends == 3
    made.messages_to_fail = []
    assert made.messages_to_fail == []
    assert _testing.is_available()


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"num_fail_sends": -1}, "numFailSends should be non-negative"),
        ({"messages_to_fail": ["NOTHING"]}, "No mapping to rpc::MessageType exists for NOTHING"),
        ({"messages_to_delay": {"NOTHING": 1}}, "No mapping to rpc::MessageType exists for NOTHING"),
        ({"messages_to_delay": {"PYTHON_CALL": -1}}, "must be non-negative"),
    ],
)
def test_faulty_options_that_are_wrong(changed, text):
    with pytest.raises(RuntimeError, match=text):
        rpc.construct_rpc_backend_options(rpc.BackendType.FAULTY_TENSORPIPE, **{**FAULTY, **changed})


def test_faulty_options_have_no_defaults():
    with pytest.raises(TypeError):
        rpc.construct_rpc_backend_options(rpc.BackendType.FAULTY_TENSORPIPE)


# ---- without a group ----

NOT_SET = "Current RPC agent is not set! Did you initialize the RPC framework"


@pytest.mark.parametrize(
    "call",
    [
        lambda: rpc.rpc_sync("a", min),
        lambda: rpc.rpc_async("a", min),
        lambda: rpc.remote("a", min),
        lambda: rpc.get_worker_info(),
        lambda: rpc.shutdown(),
        lambda: rpc.api._all_gather(None),
        lambda: rpc.api._barrier(["a"]),
        lambda: rpc.api._wait_all_workers(),
        lambda: rpc._get_debug_info(),
    ],
)
def test_calls_need_a_group(call):
    with pytest.raises(RuntimeError, match="^RPC has not been initialized"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: rpc.RRef(1),
        lambda: rpc.get_rpc_timeout(),
        lambda: rpc._set_rpc_timeout(1),
        lambda: rpc.enable_gil_profiling(True),
        lambda: rpc._rref_context_get_debug_info(),
        lambda: rpc._get_current_rpc_agent(),
        lambda: rpc._reset_current_rpc_agent(),
    ],
)
def test_agents_functions_need_a_group(call):
    with pytest.raises(RuntimeError, match=NOT_SET):
        call()


def test_defaults_and_names():
    assert rpc.is_available()
    assert rpc.constants.DEFAULT_RPC_TIMEOUT_SEC == 60.0
    assert rpc.constants.DEFAULT_SHUTDOWN_TIMEOUT == 0
    assert rpc.constants.UNSET_RPC_TIMEOUT == rpc._UNSET_RPC_TIMEOUT == -1.0
    assert rpc._DEFAULT_INIT_METHOD == "env://"
    assert rpc._DEFAULT_NUM_WORKER_THREADS == 16
    for name in rpc.__all__:
        assert hasattr(rpc, name)
    for name in rpc.api.__all__:
        assert getattr(rpc, name) is getattr(rpc.api, name)
