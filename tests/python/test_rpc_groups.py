# SPDX-License-Identifier: Apache-2.0
"""Joining, gathering and leaving, in groups of a given size and in others."""

import os
import signal
import threading
import time

import pytest

from tendril import rpc, store


def options(url, **changed):
    return rpc.TensorPipeRpcBackendOptions(init_method=url, **changed)


def join(rank, world_size, url, name=None, **changed):
    rpc.init_rpc(
        name or f"worker{rank}", rank=rank, world_size=world_size, rpc_backend_options=options(url, **changed)
    )


def raised(kind, function, *args, **kwargs):
    with pytest.raises(kind) as caught:
        function(*args, **kwargs)
    return str(caught.value)


# ---- init and shutdown ----


def test_second_init(alone, tmp_path):
    text = raised(RuntimeError, join, 0, 1, f"file://{tmp_path}/other")
    assert text == "RPC is already initialized"
    assert alone.rpc_sync("alone", min, args=(1, 2)) == 1


def test_init_again(tmp_path):
    for count in range(3):
        join(0, 1, f"file://{tmp_path}/meeting{count}", name=f"me{count}")
        assert rpc.get_worker_info().name == f"me{count}"
        rpc.shutdown()
        assert not rpc._is_current_rpc_agent_set()
        assert "RPC has not been initialized" in raised(RuntimeError, rpc.shutdown)


def shut_down_from_within():
    return raised(RuntimeError, rpc.shutdown, graceful=False)


def test_no_shutdown_from_within(alone):
    assert "from inside a function" in alone.rpc_sync("alone", shut_down_from_within)
    assert alone.rpc_sync("alone", min, args=(1, 2)) == 1


def test_session_ends_when_its_body_raises(tmp_path):
    with pytest.raises(KeyError), rpc.session(
        "me", rank=0, world_size=1, rpc_backend_options=options(f"file://{tmp_path}/meeting")
    ):
        raise KeyError
    assert not rpc._is_current_rpc_agent_set()


@pytest.mark.parametrize("name", ["", "a" * 128, "a b", "ä", "a/b"])
def test_names_that_are_none(name, tmp_path):
    text = raised(RuntimeError, join, 0, 1, f"file://{tmp_path}/meeting", name=name or "\n")
    assert "Worker name must match" in text
    assert not rpc._is_current_rpc_agent_set()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("file:///tmp/x", "rank parameter missing"),
        ("tcp://localhost:29999", "rank parameter missing"),
        ("env://", "environment variable RANK expected, but not set"),
        ("file://", "path missing"),
    ],
)
def test_dynamic_group_needs_a_rank(url, text):
    with pytest.raises(ValueError, match=text):
        rpc.init_rpc("me", rpc_backend_options=options(url))


def test_unknown_url():
    with pytest.raises(RuntimeError, match="No rendezvous handler for nowhere://"):
        rpc.init_rpc("me", rank=0, world_size=1, rpc_backend_options=options("nowhere://x"))


def run_same_name(rank, world_size, path, count_of_equal):
    name = "same" if rank < count_of_equal else f"worker{rank}"
    table = store.PrefixStore("names", store.FileStore(path, world_size))
    text = raised(
        RuntimeError,
        rpc._init_rpc_backend,
        backend=rpc.BackendType.TENSORPIPE,
        store=table,
        name=name,
        rank=rank,
        world_size=world_size,
        rpc_backend_options=rpc.TensorPipeRpcBackendOptions(),
    )
    assert not rpc._is_current_rpc_agent_set()
    return text


@pytest.mark.parametrize("count", [2, 3])
def test_names_that_two_have(group, tmp_path, count):
    for text in group(3, run_same_name, count, url=str(tmp_path / "names")):
        assert "RPC worker name same is not unique." in text


def run_kinds_mixed(rank, world_size, url):
    if rank == 0:
        join(0, 1, url)
        time.sleep(2)
        rpc.shutdown()
        return ""
    time.sleep(1)
    return raised(RuntimeError, join, rank, None, url)


def test_a_static_group_takes_nobody(group):
    text = group(2, run_kinds_mixed)[1]
    assert "RPC group mixes statically and dynamically initialized members which is not supported." in text


def run_device_maps(rank, world_size, url, maps):
    text = raised(ValueError, join, rank, world_size, url, device_maps=maps)
    assert not rpc._is_current_rpc_agent_set()
    return text


def test_device_maps_that_do_not_fit(group):
    for text in group(2, run_device_maps, {"nobody": {"cpu": "cpu"}}):
        assert "has invalid target node names in its device maps" in text
    for text in group(2, run_device_maps, {"worker0": {0: 0}}):
        assert "has source devices with invalid indices in its device map for worker0" in text


def run_cpu_map(rank, world_size, url):
    join(rank, world_size, url, device_maps={"worker0": {"cpu": "cpu"}})
    pairs = rpc._get_current_rpc_agent()._get_device_map(rpc.get_worker_info("worker0"))
    other = rpc._get_current_rpc_agent()._get_device_map(rpc.get_worker_info("worker1"))
    rpc.shutdown()
    return {str(here): str(there) for here, there in pairs.items()}, other


def test_device_map_of_the_cpu(group):
    assert group(2, run_cpu_map) == [({"cpu": "cpu"}, {})] * 2


# ---- gathering ----

count = 0
count_lock = threading.Lock()


def increment():
    global count
    with count_lock:
        count += 1
    return count


def get_count():
    return count


class SlowToPickle:
    """Takes its time on the way."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __getstate__(self):
        time.sleep(self.seconds)
        return (self.seconds,)

    def __setstate__(self, state):
        (self.seconds,) = state
        time.sleep(self.seconds)


def run_gathers(rank, world_size, url):
    join(rank, world_size, url)
    names = {f"worker{number}" for number in range(world_size)}
    assert rpc.api._all_gather(rank) == {f"worker{number}": number for number in range(world_size)}
    mine = {f"worker{number}" for number in range(rank % 2, world_size, 2)}
    for turn in range(3):
        gathered = rpc.api._all_gather((rank, turn), mine)
        assert gathered == {name: (int(name[-1]), turn) for name in mine}
    for turn in range(1, 4):
        rpc.rpc_sync("worker0", increment)
        rpc.api._barrier(names)
        assert rpc.rpc_sync("worker0", get_count) == turn * world_size
        rpc.api._barrier(names)
    threads = [threading.Thread(target=rpc.api._barrier, args=(names,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rpc.api._wait_all_workers()
    rpc.api._wait_all_workers()
    rpc.shutdown()
    assert not rpc.api._all_gather_sequence_id_to_states


def test_gathers_and_barriers(group):
    group(4, run_gathers)


def run_slow_gather(rank, world_size, url):
    join(rank, world_size, url)
    rpc._set_rpc_timeout(0.1)
    text = raised(RuntimeError, rpc.api._all_gather, SlowToPickle(0.5))
    rpc._set_rpc_timeout(60)
    time.sleep(2)
    rpc.shutdown(graceful=False)
    return text


def test_slow_gather(group):
    leader, follower = group(2, run_slow_gather)
    assert "timed out in _all_gather after 0.10 seconds" in leader
    assert "RPC ran for more than" in follower


def slow_wait(timeout):
    rpc.api._all_gather(SlowToPickle(0.5), timeout=timeout)


def run_slow_shutdown(rank, world_size, url):
    join(rank, world_size, url)
    original, rpc.api._wait_all_workers = rpc.api._wait_all_workers, slow_wait
    raised(RuntimeError, rpc.shutdown, timeout=0.01)
    rpc.api._wait_all_workers = original
    assert not rpc._is_current_rpc_agent_set()
    time.sleep(1)


def test_slow_shutdown(group):
    group(3, run_slow_shutdown)


def run_broken_shutdown(rank, world_size, url):
    join(rank, world_size, url)
    original = rpc.api._broadcast_to_followers
    if rank > 0:

        def broadcast(sequence_id, objects_map):
            original(sequence_id, objects_map)
            raise RuntimeError("simulation")

        def let_go():
            raise RuntimeError("simulation rref")

        rpc.api._broadcast_to_followers = broadcast
        rpc.api._delete_all_user_and_unforked_owner_rrefs = let_go
    text = raised(RuntimeError, rpc.shutdown)
    assert not rpc._is_current_rpc_agent_set()
    time.sleep(1)
    return text


def test_errors_of_shutdown(group):
    leader, *followers = group(3, run_broken_shutdown)
    assert "timed out in _all_gather" in leader
    assert followers == ["simulation rref"] * 2


def run_local_shutdown(rank, world_size, url):
    join(rank, world_size, url)
    rpc.rpc_sync((rank + 1) % world_size, min, args=(1, 2))
    rpc.api._wait_all_workers()
    # Who leaves now could take the answers to this gather with it.
    time.sleep(1)
    rpc.shutdown(graceful=False)
    assert "RPC has not been initialized" in raised(RuntimeError, rpc.rpc_sync, 0, min, args=(1, 2))


def test_local_shutdown(group):
    group(3, run_local_shutdown)


def run_death_in_shutdown(rank, world_size, url, victim):
    join(rank, world_size, url, rpc_timeout=10)
    rpc.rpc_sync((rank + 1) % world_size, min, args=(1, 2))
    rpc._get_current_rpc_agent()._native.barrier()
    if rank == victim:
        time.sleep(0.5)
        os._exit(3)
    text = raised(RuntimeError, rpc.shutdown)
    assert not rpc._is_current_rpc_agent_set()
    assert not rpc.api._all_gather_sequence_id_to_states
    return text


@pytest.mark.parametrize("victim", [0, 2])
def test_death_while_others_shut_down(group, victim):
    group(3, run_death_in_shutdown, victim, may_die=(victim,))


def work(seconds):
    time.sleep(seconds)
    return seconds


def run_uneven_work(rank, world_size, url):
    join(rank, world_size, url)
    if rank == 0:
        futures = [rpc.rpc_async(1 + number % (world_size - 1), work, args=(0.05,)) for number in range(30)]
        for future in futures:
            future.wait()
        for number in range(30):
            rpc.rpc_async(1 + number % (world_size - 1), work, args=(0.05,))
    rpc.shutdown()


def test_shutdown_waits_for_work(group):
    group(3, run_uneven_work)


# ---- groups whose members come and go ----


def members():
    return sorted(info.name for info in rpc._get_current_rpc_agent().get_worker_infos())


def await_members(names):
    deadline = time.monotonic() + 20
    while members() != names:
        assert time.monotonic() < deadline, f"{members()}, not {names}"
        time.sleep(0.01)


def run_dynamic(rank, world_size, url):
    time.sleep(0.2 * rank)
    join(rank, None, url)
    assert not rpc._get_current_rpc_agent().is_static_group
    await_members([f"worker{number}" for number in range(world_size)])
    peer = (rank + 1) % world_size
    assert rpc.rpc_sync(peer, min, args=(1, 2)) == 1
    if rank == world_size - 1:
        time.sleep(1)
        rpc.shutdown()
        return
    await_members([f"worker{number}" for number in range(world_size - 1)])
    text = raised(RuntimeError, rpc.rpc_sync, f"worker{world_size - 1}", min, args=(1, 2))
    assert "could not find destination name" in text
    time.sleep(1)
    rpc.shutdown()


def test_dynamic_group(group):
    group(3, run_dynamic)


def beside(url):
    """A table for the members of a test, apart from where they meet."""
    return store.FileStore(url[len("file://") :] + ".beside", -1)


def run_coming_again(rank, world_size, url):
    table, both, one = beside(url), ["worker0", "worker1"], ["worker0"]
    if rank == 0:
        join(0, None, url)
        for number, names in enumerate((both, one, both)):
            await_members(names)
            table.set(f"seen{number}", "")
        assert rpc.rpc_sync("worker1", min, args=(1, 2)) == 1
        table.set("called", "")
        await_members(one)
        rpc.shutdown()
        return
    join(1, None, url)
    table.wait(["seen0"])
    rpc.shutdown()
    table.wait(["seen1"])
    # A name that is taken keeps nobody from trying again with another one.
    with pytest.raises(RuntimeError, match="RPC worker name worker0 is not unique."):
        rpc.init_rpc("worker0", rank=1, rpc_backend_options=options(url))
    assert not rpc._is_current_rpc_agent_set()
    join(1, None, url)
    assert members() == both
    assert rpc.rpc_sync("worker0", min, args=(1, 2)) == 1
    table.wait(["called"])
    rpc.shutdown()


def test_who_comes_again_comes_to_the_same_group(group):
    group(2, run_coming_again)


def run_dynamic_death(rank, world_size, url):
    table = beside(url)
    if rank == 1:
        join(1, None, url)
        table.wait(["fetched"])
        os.kill(os.getpid(), signal.SIGKILL)
    if rank == 0:
        join(0, None, url)
        await_members(["worker0", "worker1"])
        rref = rpc.remote("worker1", min, args=(1, 2))
        assert rref.to_here() == 1
        table.set("fetched", "")
        await_members(["worker0"])
        assert "could not find destination name" in raised(RuntimeError, rpc.rpc_sync, "worker1", min, args=(1, 2))
        assert raised(RuntimeError, rref.to_here)
        table.set("alone", "")
    else:
        table.wait(["alone"])
        join(2, None, url)
    # Others still come, and all leave in peace.
    await_members(["worker0", "worker2"])
    assert rpc.rpc_sync(2 - rank, min, args=(1, 2)) == 1
    table.add("done", 1)
    while table.add("done", 0) < 2:
        time.sleep(0.01)
    rpc.shutdown()


def test_a_dynamic_group_goes_on_without_the_dead(group):
    group(3, run_dynamic_death, may_die=(1,))


def run_dynamic_at_once(rank, world_size, url):
    join(rank, None, url)
    time.sleep(0.1 * rank)
    rpc.shutdown()


def test_all_come_and_go_at_once(group):
    group(4, run_dynamic_at_once)


def test_section_of_the_group(tmp_path):
    from tendril.rpc._utils import _group_membership_management

    table, inside = store.HashStore(), []

    def enter(name):
        with _group_membership_management(table, name, True):
            inside.append(name)
            assert len(inside) == 1
            time.sleep(0.05)
            inside.remove(name)

    threads = [threading.Thread(target=enter, args=(f"worker{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert table.get("RpcGroupManagementToken") == b""
