# SPDX-License-Identifier: Apache-2.0
"""Names of functions in C, hooks, and names that profilers see."""

import pickle

import pytest

from tendril import rpc
from tendril.rpc import _hooks, internal


def test_names():
    assert str(rpc.ops.ps.push) == "ps::push"
    assert str(rpc.ops.aten.add) == "aten::add"
    assert str(rpc.ops.replay.Buffer.sample) == "replay::Buffer::sample"
    assert rpc.ops.ps.push == rpc.Operation("ps::push")
    assert rpc.ops.ps.push != rpc.ops.ps.pull
    assert len({rpc.ops.ps.push, rpc.Operation("ps::push")}) == 1
    assert repr(rpc.ops.ps.push) == "<operation ps::push>"
    assert callable(rpc.ops.ps.push)


def test_names_that_are_none():
    with pytest.raises(AttributeError):
        rpc.ops._private  # noqa: B018
    with pytest.raises(AttributeError):
        rpc.ops.ps.__wrapped__  # noqa: B018
    assert not hasattr(rpc.ops.ps.push, "_wrapped_async_rpc_function")


@rpc.register("completion::Buffer::sample(int count) -> int")
def _sample(count):
    return count


def test_names_are_completed():
    assert {"aten", "completion"} <= set(dir(rpc.ops))
    assert "Buffer" in dir(rpc.ops.completion) and "sample" not in dir(rpc.ops.completion)
    assert "sample" in dir(rpc.ops.completion.Buffer)
    assert "__call__" in dir(rpc.ops.completion.Buffer.sample)


def test_an_operation_can_be_pickled():
    assert pickle.loads(pickle.dumps(rpc.ops.ps.push)) == rpc.ops.ps.push


def test_targets():
    assert _hooks.target_of(rpc.ops.ps.push) == "ps::push"
    assert _hooks.target_of(min) is min


def test_hooks_are_installed_and_taken_back():
    _hooks.install(should_profile=lambda: True)
    assert rpc.api._get_should_profile()
    _hooks.install(should_profile=None)
    assert not rpc.api._get_should_profile()
    with pytest.raises(TypeError, match="there is no hook 'nothing'; there are .*target_of"):
        _hooks.install(nothing=min)


def test_profiling_key():
    key = internal._build_rpc_profiling_key(internal.RPCExecMode.SYNC, "foo", "worker0", "worker1")
    assert key == "rpc_sync#foo(worker0 -> worker1)"
    assert [mode.value for mode in internal.RPCExecMode] == ["sync", "async", "async_jit", "remote"]


def test_async_execution_keeps_what_it_wraps():
    def add(a, b):
        """Adds."""
        return a + b

    wrapped = rpc.functions.async_execution(add)
    assert wrapped(1, b=2) == 3
    assert wrapped.__doc__ == "Adds."
    assert wrapped._wrapped_async_rpc_function is add


def test_exceptions_of_a_run_function():
    internal._handle_exception(5)
    with pytest.raises(ValueError, match="a\nb"):
        internal._handle_exception(internal.RemoteException("a\\nb", ValueError))


def test_a_picklers_place():
    own = object()
    with rpc.api._use_rpc_pickler(own):
        assert rpc.api._default_pickler is own
    assert rpc.api._default_pickler is internal._internal_rpc_pickler
    with pytest.raises(KeyError), rpc.api._use_rpc_pickler(own):
        raise KeyError
    assert rpc.api._default_pickler is internal._internal_rpc_pickler
