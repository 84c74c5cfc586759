# SPDX-License-Identifier: Apache-2.0
"""Failed calls that nobody has asked about: they are reported once, when the worker leaves."""

import asyncio
import gc
import logging
import time

import pytest

from tendril import _C, futures, rpc


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
