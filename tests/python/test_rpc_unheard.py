# SPDX-License-Identifier: Apache-2.0
"""Failed calls that nobody has asked about: they are reported once, when the worker leaves."""

import asyncio
import collections
import gc
import logging
import time

import pytest

from tendril import _C, futures, rpc
from tendril.rpc import _testing


@pytest.fixture
def reports(caplog, tmp_path):
    """Runs a body as the one member of a group; gives the reports of its calls that were logged when it left."""

    def run(body):
        options = rpc.TensorPipeRpcBackendOptions(init_method=f"file://{tmp_path}/meeting")
        caplog.clear()
        with caplog.at_level(logging.WARNING), rpc.session("alone", rank=0, world_size=1, rpc_backend_options=options):
            body()
        return [record.getMessage() for record in caplog.records if "nobody has asked" in record.getMessage()]

    return run


def fail(text="Expected error"):
    raise ValueError(text)


def fail_late(text):
    time.sleep(0.1)
    raise ValueError(text)


def succeed():
    return 1


def settle(future):
    while not future.done():
        time.sleep(0.001)


def test_reported_once(reports):
    def body():
        for _ in range(3):
            rpc.rpc_async("alone", fail, args=("forgotten",))
        rpc.rpc_async("alone", succeed)
        rpc.rpc_async("alone", fail_late, args=("forgotten early",))
        time.sleep(0.3)

    (report,) = reports(body)
    assert "4 calls of this worker have failed" in report
    assert "fail on worker 'alone': ValueError: forgotten (3 times)" in report
    assert "ValueError: forgotten early" in report
    assert _C.take_unheard_failures() == []


def test_futures_that_are_still_there(reports):
    kept = []

    def body():
        kept.extend(rpc.rpc_async("alone", fail, args=("kept",)) for _ in range(2))
        for future in kept:
            settle(future)

    (report,) = reports(body)
    assert "2 calls of this worker have failed" in report and "kept (2 times)" in report
    with pytest.raises(ValueError, match="kept"):
        kept[0].wait()
    kept.clear()
    gc.collect()
    assert _C.take_unheard_failures() == []


def ask_by_wait(future):
    with pytest.raises(ValueError):
        future.wait()


def ask_by_value(future):
    settle(future)
    with pytest.raises(ValueError):
        future.value()


def ask_by_then(future):
    settle(future.then(lambda done: None))


def ask_by_callback(future):
    future.add_done_callback(lambda done: None)
    settle(future)


def ask_by_awaiting(future):
    async def main():
        with pytest.raises(ValueError):
            await future

    asyncio.run(main())


def ask_by_collecting(future):
    with pytest.raises(ValueError):
        futures.wait_all([future])


@pytest.mark.parametrize(
    "ask", [ask_by_wait, ask_by_value, ask_by_then, ask_by_callback, ask_by_awaiting, ask_by_collecting]
)
def test_what_somebody_asks_about_is_not_reported(reports, ask):
    assert reports(lambda: ask(rpc.rpc_async("alone", fail))) == []


def test_a_cancelled_call_is_not_reported(reports):
    def body():
        future = rpc.rpc_async("alone", fail_late, args=("cancelled",))
        assert future.cancel()

    assert reports(body) == []


class Thing:
    def __init__(self, text=""):
        if text:
            raise ValueError(text)

    def fail(self, text="of a method"):
        raise ValueError(text)

    def succeed(self):
        return 1


def failures_when_there_are(count):
    """So many failures that would be reported, by their texts; waits until they are there."""
    failures = collections.Counter()
    while sum(failures.values()) < count:
        failures.update(dict(_C.take_unheard_failures()))
        time.sleep(0.001)
    return failures


def test_values_that_could_not_be_made(reports):
    kept = []

    def body():
        kept.append(rpc.remote("alone", fail, args=("kept",)))
        for _ in range(2):
            rpc.remote("alone", fail, args=("forgotten",))
        rpc.remote("alone", fail_late, args=("forgotten early",))
        kept.append(rpc.remote("alone", succeed))
        texts = {"ValueError: kept": 1, "ValueError: forgotten": 2, "ValueError: forgotten early": 1}
        assert failures_when_there_are(4) == texts

    assert reports(body) == []
    kept.clear()
    gc.collect()
    assert _C.take_unheard_failures() == []


def ask_by_fetching(rref):
    with pytest.raises(ValueError):
        rref.to_here()


def ask_by_looking(rref):
    with pytest.raises(ValueError):
        rref.local_value()


def ask_by_its_future(rref):
    assert rref._get_future().wait() is None


def ask_by_its_type(rref):
    with pytest.raises(ValueError):
        rref._get_type()


def ask_by_a_method(rref):
    with pytest.raises(ValueError):
        rref.rpc_sync().anything()


def ask_by_a_remote_method(rref):
    with pytest.raises(ValueError):
        rref.remote().anything()


def fetch(rref):
    return rref.to_here()


def ask_by_handing_on(rref):
    with pytest.raises((RuntimeError, ValueError)):
        rpc.rpc_sync("alone", fetch, args=(rref,))


@pytest.mark.parametrize(
    "ask",
    [
        ask_by_fetching,
        ask_by_looking,
        ask_by_its_future,
        ask_by_its_type,
        ask_by_a_method,
        ask_by_a_remote_method,
        ask_by_handing_on,
    ],
)
def test_a_value_that_somebody_asks_for_is_not_reported(reports, ask):
    assert reports(lambda: ask(rpc.remote("alone", Thing, args=("not made",)))) == []


def test_methods(reports):
    kept = []

    def body():
        thing = rpc.remote("alone", Thing)
        for _ in range(2):
            settle(thing.rpc_async().fail())
        kept.append(thing.rpc_async().fail("kept"))
        settle(kept[0])
        settle(thing.rpc_async().nothing())
        settle(thing.rpc_async().succeed())
        thing.remote().fail("remote")
        assert failures_when_there_are(5) == {
            "fail on worker 'alone': ValueError: of a method": 2,
            "fail on worker 'alone': ValueError: kept": 1,
            "nothing on worker 'alone': AttributeError: type object 'Thing' has no attribute 'nothing'": 1,
            "ValueError: remote": 1,
        }

    assert reports(body) == []
    kept.clear()
    gc.collect()
    assert _C.take_unheard_failures() == []


def test_methods_of_what_could_not_be_made(reports):
    def body():
        settle(rpc.remote("alone", Thing, args=("not made",)).rpc_async().fail())

    (report,) = reports(body)
    assert "1 calls of this worker have failed" in report
    assert "fail on worker 'alone': ValueError: not made" in report


@pytest.mark.parametrize(
    "ask", [ask_by_wait, ask_by_value, ask_by_then, ask_by_callback, ask_by_awaiting, ask_by_collecting]
)
def test_methods_that_somebody_asks_about_are_not_reported(reports, ask):
    assert reports(lambda: ask(rpc.remote("alone", Thing).rpc_async().fail())) == []


def test_remote_methods_that_somebody_asks_about_are_not_reported(reports):
    assert reports(lambda: ask_by_fetching(rpc.remote("alone", Thing).remote().fail())) == []


def run_torch(rank, world_size, url):
    import tendril.torch

    tendril.torch.install()
    options = rpc.TensorPipeRpcBackendOptions(init_method=url)
    rpc.init_rpc("alone", rank=0, world_size=1, rpc_backend_options=options)
    thing = rpc.remote("alone", Thing)
    settle(thing.rpc_async().fail())
    ask_by_wait(thing.rpc_async().fail("asked"))
    ask_by_callback(thing.rpc_async().fail("asked"))
    assert thing.rpc_async().succeed().wait() == 1
    (failure,) = _C.take_unheard_failures()
    assert failure == ("fail on worker 'alone': ValueError: of a method", 1)
    rpc.shutdown()


def run_values_that_were_not_ordered(rank, world_size, url):
    backend = rpc.BackendType["FAULTY_TENSORPIPE"]
    options = rpc.construct_rpc_backend_options(
        backend,
        init_method=url,
        num_worker_threads=8,
        messages_to_fail=["PYTHON_REMOTE_CALL"],
        messages_to_delay={},
        num_fail_sends=3,
    )
    rpc.init_rpc(f"worker{rank}", backend, rank, world_size, options)
    if rank == 0:
        kept = [rpc.remote("worker1", succeed)]
        rpc.remote("worker1", succeed)
        asked = rpc.remote("worker1", succeed)
        with pytest.raises(RuntimeError):
            asked._get_future().wait()
        ((text, count),) = failures_when_there_are(2).items()
        assert "succeed to worker 'worker1'" in text and count == 2
        kept.clear()
    rpc.shutdown()
    assert _C.take_unheard_failures() == []


def test_values_that_were_not_ordered(group):
    assert _testing.is_available()
    group(2, run_values_that_were_not_ordered)


def test_methods_with_futures_of_torch(group):
    pytest.importorskip("torch")
    group(1, run_torch)


def test_waiting_for_all_is_asking(reports):
    def body():
        with pytest.raises(ValueError), rpc.api._wait_all():
            rpc.rpc_async("alone", fail)

    assert reports(body) == []


@rpc.functions.async_execution
def hand_on():
    return rpc.rpc_async("alone", fail)


def test_who_hands_a_future_on_asks(reports):
    def body():
        with pytest.raises(ValueError):
            rpc.rpc_sync("alone", hand_on)

    assert reports(body) == []


def test_many_kinds_of_failures(reports):
    def body():
        for number in range(50):
            settle(rpc.rpc_async("alone", fail, args=(f"kind {number}",)))

    (report,) = reports(body)
    assert "50 calls" in report and "other failures (18 times)" in report
