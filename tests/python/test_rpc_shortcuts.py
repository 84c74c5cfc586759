# SPDX-License-Identifier: Apache-2.0
"""rpc_sync, rpc_async and remote are objects of the extension's: they look, fail and can be replaced like functions."""

import inspect
import operator
import pickle

import pytest

from tendril import rpc
from tendril.rpc import _hooks, api

CALLS = {
    "rpc_sync": lambda result: result,
    "rpc_async": lambda future: future.wait(),
    "remote": lambda rref: rref.to_here(),
}


@pytest.fixture
def alone(tmp_path):
    """A group of this process alone."""
    options = rpc.TensorPipeRpcBackendOptions(init_method=f"file://{tmp_path}/store")
    with rpc.session("worker0", rank=0, world_size=1, rpc_backend_options=options):
        yield "worker0"


@pytest.mark.parametrize("name", CALLS)
def test_looks_like_a_function(name):
    call = getattr(rpc, name)
    assert (call.__name__, call.__qualname__, call.__module__) == (name, name, "tendril.rpc.api")
    assert list(inspect.signature(call).parameters) == ["to", "func", "args", "kwargs", "timeout"]
    assert call.__doc__.startswith("Calls a function on another worker")
    assert pickle.loads(pickle.dumps(call)) is call

    class Holder:
        method = call

    assert Holder().method.__self__.__class__ is Holder


@pytest.mark.parametrize("name", CALLS)
def test_arguments_by_position_and_name(alone, name):
    call, result_of = getattr(rpc, name), CALLS[name]
    for args in ((1, 2), [1, 2]):
        assert result_of(call(alone, operator.add, args)) == 3
        assert result_of(call(to=alone, func=operator.add, args=args, timeout=60)) == 3
    assert result_of(call(rpc.get_worker_info(), dict, None, {"a": 1}, 60.0)) == {"a": 1}
    assert result_of(call(0, sorted, ((2, 1),), dict(reverse=True))) == [2, 1]


@pytest.mark.parametrize("name", CALLS)
def test_what_is_wrong_is_said_alike(alone, name):
    call, slow = getattr(rpc, name), inspect.unwrap(getattr(rpc, name))
    wrong = [
        ((), {}),
        ((alone,), {}),
        ((alone, max, (1, 2), {}, 1.0, 2), {}),
        ((alone, max), {"arguments": ()}),
        ((alone, max), {"to": alone}),
        (("nobody", max), {}),
        ((None, max), {}),
        ((alone, operator.add, (1, "a")), {}),
    ]
    for args, kwargs in wrong:
        raised = []
        for each in (call, slow):
            with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
                CALLS[name](each(*args, **kwargs))
            raised.append((caught.type, str(caught.value)))
        assert raised[0] == raised[1]


@pytest.mark.parametrize("name", ["rpc_sync", "rpc_async"])
def test_what_is_replaced_is_used(alone, name, monkeypatch):
    call, result_of = getattr(rpc, name), CALLS[name]
    seen = []

    def invoke(*args):
        seen.append(args)
        return original(*args)

    original = api._invoke_rpc
    with monkeypatch.context() as patch:
        patch.setattr(api, "_invoke_rpc", invoke)
        patch.setattr(_hooks, "should_profile", lambda: seen.append("asked"))
        assert result_of(call(alone, operator.add, (1, 2))) == 3
    assert seen
    seen.clear()
    assert result_of(call(alone, operator.add, (1, 2))) == 3
    assert not seen


def test_futures_inside_wait_all(alone):
    with api._wait_all():
        future = rpc.rpc_async(alone, operator.add, (1, 2))
        assert api._thread_local_var.future_list == [future]
    assert future.done()
    assert not api._inside_wait_all


def test_without_a_group():
    for name in CALLS:
        with pytest.raises(RuntimeError, match="RPC has not been initialized"):
            getattr(rpc, name)("worker0", max)
