# SPDX-License-Identifier: Apache-2.0
"""Options of backends, devices, and what is checked of them before anyone meets."""

import datetime
import pickle

import pytest

from tendril import rpc
from tendril.rpc.devices import Device, to_device_map


def options(**changed):
    return rpc.TensorPipeRpcBackendOptions(**changed)


def test_defaults():
    made = options()
    assert made.rpc_timeout == 60.0
    assert made.init_method == "env://"
    assert made.num_worker_threads == 16
    assert made.device_maps == {}
    assert made.devices == []


def test_options_are_keyword_only():
    with pytest.raises(TypeError):
        rpc.TensorPipeRpcBackendOptions(8)


def test_timeout_of_zero_is_none_and_negative_ones_are_refused():
    assert options(rpc_timeout=0).rpc_timeout == 0
    with pytest.raises(RuntimeError, match="RPC Timeout must be non-negative"):
        options(rpc_timeout=-1)


def test_timedelta_is_no_timeout():
    with pytest.raises(TypeError, match="incompatible constructor arguments"):
        options(rpc_timeout=datetime.timedelta(seconds=1))
    made = options()
    with pytest.raises(TypeError, match="incompatible function arguments"):
        made.rpc_timeout = datetime.timedelta(seconds=1)
    assert made.rpc_timeout == 60.0


@pytest.mark.parametrize("count", [0, -3])
def test_threads_are_needed(count):
    with pytest.raises(RuntimeError, match=f"num_worker_threads must be positive, got {count}"):
        options(num_worker_threads=count)


def test_fields_can_be_changed():
    made = options(init_method="file:///tmp/x")
    made.rpc_timeout = 0.5
    made.init_method += "init_2"
    assert (made.rpc_timeout, made.init_method) == (0.5, "file:///tmp/xinit_2")


def test_subclass_with_its_own_constructor():
    class Own(rpc.RpcBackendOptions):
        def __init__(self, init_method):
            rpc.RpcBackendOptions.__init__(self)
            self.init_method = init_method

    assert Own("file:///x").init_method == "file:///x"
    assert Own("file:///x").rpc_timeout == 60.0


# ---- devices ----


@pytest.mark.parametrize(
    ("given", "text"), [(1, "cuda:1"), ("cpu", "cpu"), ("cuda:3", "cuda:3"), ("cuda", "cuda"), (Device("cpu"), "cpu")]
)
def test_devices(given, text):
    device = Device(given)
    assert str(device) == text
    assert pickle.loads(pickle.dumps(device)) == device
    assert len({device, Device(text)}) == 1


@pytest.mark.parametrize("given", ["", "cuda:x", "cuda:", "a b"])
def test_what_is_no_device(given):
    with pytest.raises(RuntimeError, match="Invalid device string"):
        Device(given)


def test_negative_index():
    with pytest.raises(RuntimeError, match="Device index must not be negative"):
        options().set_device_map("worker1", {-1: 0})


def test_two_devices_to_one():
    with pytest.raises(ValueError, match="`device_map` only supports 1-to-1 mapping, trying to map"):
        to_device_map({0: 1, 2: 1})


def test_device_map_grows_and_contradictions_are_refused():
    made = options(device_maps={"worker1": {0: 1}})
    made.set_device_map("worker1", {0: 1, 1: 0})
    with pytest.raises(ValueError, match="`set_device_map` only supports 1-to-1 mapping, trying to map"):
        made.set_device_map("worker1", {0: 2})
    # Two calls that contradict each other from the other end are found when the group meets.
    made.set_device_map("worker1", {2: 0})
    assert {str(here): str(there) for here, there in made.device_maps["worker1"].items()} == {
        "cuda:0": "cuda:1",
        "cuda:1": "cuda:0",
        "cuda:2": "cuda:0",
    }


def test_devices_are_accelerators():
    made = options(devices=["cuda:1", 0])
    assert [str(device) for device in made.devices] == ["cuda:1", "cuda:0"]
    with pytest.raises(ValueError, match="`set_devices` expect a list of CUDA devices, but got device type cpu"):
        made.set_devices(["cpu"])


def test_agents_copy_is_its_own():
    made = options(device_maps={"a": {"cpu": "cpu"}})
    copy = made._copy()
    made.set_device_map("b", {"cpu": "cpu"})
    made.rpc_timeout = 1
    assert list(copy.device_maps) == ["a"]
    assert copy.rpc_timeout == 60.0
