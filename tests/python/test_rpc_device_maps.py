# SPDX-License-Identifier: Apache-2.0
"""Device maps of a whole group: the rules by which they fit together, and how workers tell each other of theirs."""

import threading
import time

import pytest

from tendril import _C, rpc
from tendril.rpc import backend_registry as registry
from tendril.rpc import devices as rpc_devices
from tendril.rpc.devices import to_device

NAMES = ["a", "b"]
COUNTS = {"a": 2, "b": 2}


def _plans(maps, devices, counts=None):
    """What `_validate_device_maps` takes of two workers: maps by "from>to", devices by worker."""
    all_maps = {name: {} for name in NAMES}
    for way, pairs in maps.items():
        source, target = way.split(">")
        all_maps[source][target] = {to_device(here): to_device(there) for here, there in pairs.items()}
    all_devices = {name: [to_device(device) for device in devices.get(name, [])] for name in NAMES}
    return NAMES, {**COUNTS, **(counts or {})}, all_maps, all_devices


RULES = [
    ({}, {}, None),
    ({"a>b": {0: 1, 1: 0}, "b>a": {0: 0}}, {}, None),
    ({"a>b": {"cpu": "cpu"}}, {}, None),
    ({"a>a": {0: 1}}, {"a": [0, 1]}, None),
    ({}, {"a": [0, 0]}, "Node a has duplicated devices"),
    ({}, {"b": [0, 2]}, "Node b has devices with invalid indices"),
    ({"a>c": {0: 0}}, {}, "Node a has invalid target node names in its device maps"),
    ({"b>a": {0: 0, 1: 0}}, {}, "Node b has duplicated target devices in its device map for a"),
    ({"a>b": {1: 0}}, {"a": [0]}, "Node a has unexpected source devices in its device map for b"),
    ({"a>b": {2: 0}}, {}, "Node a has source devices with invalid indices in its device map for b"),
    ({"a>b": {0: 1}}, {"b": [0]}, "Node a has unexpected target devices in its device map for b"),
    ({"a>b": {0: 2}}, {}, "Node a has target devices with invalid indices in its device map for b"),
]
"""Maps, devices, and what is wrong with them."""


@pytest.mark.parametrize("maps, devices, fault", RULES)
def test_rules(maps, devices, fault):
    plans = _plans(maps, devices)
    if fault is None:
        registry._validate_device_maps(*plans)
    else:
        with pytest.raises(ValueError, match=f"^{fault}\n"):
            registry._validate_device_maps(*plans)


@pytest.mark.parametrize("maps, devices, fault", RULES)
def test_rules_are_those_of_torch(maps, devices, fault):
    pytest.importorskip("torch")
    theirs = pytest.importorskip("torch.distributed.rpc.backend_registry")
    if theirs is registry:
        pytest.skip("tendril.torch is installed in this process")
    errors = []
    for validate in (registry._validate_device_maps, theirs._validate_device_maps):
        try:
            validate(*_plans(maps, devices))
        except ValueError as error:
            errors.append(str(error).splitlines()[0])
    assert errors == ([fault, fault] if fault else [])


@pytest.mark.parametrize("maps, devices, fault", RULES)
def test_rules_are_those_of_the_agent(maps, devices, fault):
    """Agents that join check their maps in the extension."""
    names, counts, all_maps, all_devices = _plans(maps, devices)
    store = _C.HashStore()
    agents, errors = [], {}
    for name in names:
        agent = _C.Agent(name, device_count=counts[name])
        for target, pairs in all_maps[name].items():
            for here, there in pairs.items():
                agent.set_device_map(target, {rpc_devices.to_pair(here): rpc_devices.to_pair(there)})
        if all_devices[name]:
            agent.set_devices([rpc_devices.to_pair(device) for device in all_devices[name]])
        agents.append(agent)

    def join(rank):
        try:
            agents[rank].join(store, rank, len(agents))
        except RuntimeError as error:
            errors[rank] = str(error)

    threads = [threading.Thread(target=join, args=(rank,)) for rank in range(len(agents))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not errors:
        for agent in agents:
            agent.abort()
    assert len(errors) == (len(agents) if fault else 0)
    assert all(fault in error for error in errors.values())


def test_targets_of_a_group_that_grows_may_be_missing():
    registry._validate_device_maps(*_plans({"a>c": {0: 5}}, {}), is_static_group=False)
    with pytest.raises(ValueError, match="source devices with invalid indices in its device map for c"):
        registry._validate_device_maps(*_plans({"a>c": {2: 0}}, {}), is_static_group=False)


def test_reverse_maps_and_devices():
    _, _, maps, _ = _plans({"a>b": {0: 1, "cpu": "cpu"}, "b>a": {0: 1}, "b>b": {1: 0}}, {})
    cpu, first, second = map(to_device, ("cpu", 0, 1))
    reverse = registry._create_reverse_mapping("b", NAMES, maps)
    assert reverse == {"a": {second: first, cpu: cpu}, "b": {first: second}}
    assert registry._create_device_list([], maps["b"], reverse) == [first, second]
    assert registry._create_device_list([second, first], maps["b"], reverse) == [first, second]
    assert registry._create_device_list([], {}, {}) == []
    assert registry._tensorpipe_validate_devices([cpu, first], 1)
    assert not registry._tensorpipe_validate_devices([second], 1)


finished = threading.Event()


def finish():
    finished.set()


def run_exchange(rank, world_size, url, static):
    options = rpc.TensorPipeRpcBackendOptions(init_method=url)
    if static or rank == 0:
        options.set_device_map(f"worker{1 - rank}", {"cpu": "cpu"})
    rpc.init_rpc(f"worker{rank}", rank=rank, world_size=world_size if static else None, rpc_backend_options=options)
    if rank == 0:
        assert finished.wait(60)
    else:
        while len(rpc.get_worker_infos()) < 2:
            time.sleep(0.01)
        agent = rpc._get_current_rpc_agent()
        registry._set_devices_and_reverse_device_map(agent)
        assert registry._get_device_infos() == (0, agent._get_backend_options().device_maps, [])
        cpu = to_device("cpu")
        assert rpc.rpc_sync("worker0", registry._get_device_infos) == (0, {"worker1": {cpu: cpu}}, [])
        agent._get_backend_options().device_maps["worker0"] = {to_device(9): to_device(0)}
        with pytest.raises(ValueError, match="Node worker1 has source devices with invalid indices"):
            registry._set_devices_and_reverse_device_map(agent)
        rpc.rpc_sync("worker0", finish)
    rpc.shutdown()


@pytest.mark.parametrize("static", [True, False])
def test_members_ask_each_other(group, static):
    group(2, run_exchange, static)


def run_process_group(rank, world_size, url):
    import tendril.torch

    with pytest.raises(RuntimeError, match="tendril.torch.install"):
        registry._init_process_group(None, rank, world_size)
    tendril.torch.install()
    from torch import distributed

    store = distributed.FileStore(url[len("file://") :], world_size)
    process_group = registry._init_process_group(store, rank, world_size)
    cpu, mine = to_device("cpu"), f"worker{rank}"
    maps = {f"worker{1 - rank}": {cpu: cpu}}
    exchange = registry._tensorpipe_exchange_and_check_all_device_maps
    assert exchange(mine, 0, maps, [], process_group) == (maps, [])
    with pytest.raises(ValueError, match="Node worker0 has invalid target node names"):
        exchange(mine, 0, {"nobody": {cpu: cpu}}, [], process_group)


def test_process_groups(group):
    pytest.importorskip("torch")
    group(2, run_process_group)
