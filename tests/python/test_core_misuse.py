# SPDX-License-Identifier: Apache-2.0
"""What programs had better not do to the extension: it raises, and neither crashes nor forgets what it holds."""

import gc
import pickle
import signal
import sys
import threading
import time
import weakref

import core_helpers as helpers
import pytest
from core_helpers import add, call_async, remote, sync
from store_helpers import OwnStore
from test_core_life import run_script

from tendril import _C, store

LIMIT_SECONDS = 30


@pytest.fixture
def agent(tmp_path):
    agent = helpers.join(0, 1, f"file://{tmp_path}/meeting")
    yield agent
    agent.shutdown(timeout=LIMIT_SECONDS)
    _C.reset_current_agent()


def await_end_of(reference):
    """Waits until the object is gone: some are dropped by another thread."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while reference() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert reference() is None


# ---- calls ----


def leave():
    raise SystemExit(3)


def test_who_ends_its_process_ends_no_other(agent):
    """SystemExit of the far side is an error like any other here."""
    with pytest.raises(RuntimeError, match="SystemExit: 3"):
        sync(0, leave)
    with pytest.raises(RuntimeError, match="SystemExit: 3"):
        remote(0, leave).to_here()


@pytest.mark.parametrize("kwargs", [[1], 3, "text", ("a", 1)])
def test_kwargs_that_are_no_dict(agent, kwargs):
    """A program's pickler may give anything."""
    payload = pickle.dumps((add, (1, 2), kwargs))
    with pytest.raises(TypeError, match="kwargs"):
        agent.call_pickled(0, payload, (), (), -1.0, _C.SYNC)
    assert agent.call_pickled(0, pickle.dumps((add, (1, 2), None)), (), (), -1.0, _C.SYNC) == 3


class Changing:
    """An object whose pickling changes the dict that it is in."""

    def __init__(self, table):
        self.table = table

    def __reduce__(self):
        self.table.clear()
        self.table.update({f"key{i}": i for i in range(100)})
        gc.collect()
        return int, ()


def test_arguments_that_change_while_they_are_sent(agent):
    table = {}
    table.update(first="a" * 100, second=Changing(table), third="c" * 100)
    with pytest.raises((TypeError, RuntimeError)):
        _C.rpc_sync(0, "aten::add", (1, 2), table, -1.0)


class BreaksWhenRead:
    def __reduce__(self):
        return break_when_read, ()


kept = []


def break_when_read():
    frame = sys._getframe()
    while frame:
        kept.extend(value for value in frame.f_locals.values() if isinstance(value, memoryview))
        frame = frame.f_back
    raise KeyError("broken")


def test_the_stream_of_a_failed_pickle_is_taken_back(agent):
    """A traceback has the variables of what read it, and lives longer than the message."""
    kept.clear()
    with pytest.raises(RuntimeError):
        sync(0, helpers.identity, BreaksWhenRead(), "x" * 100_000)
    assert kept
    for stream in kept:
        with pytest.raises(ValueError, match="released"):
            stream.tobytes()


class Writer:
    """A stderr that is replaced while it is written to."""

    def write(self, text):
        sys.stderr = sys.__stderr__
        gc.collect()


def test_stderr_that_goes_while_it_is_written_to(tmp_path):
    run_script(
        """
        import core_helpers as helpers
        from test_core_misuse import Writer
        agent = helpers.join(0, 1, sys.argv[2])
        sys.stderr = Writer()
        for _ in range(10):
            try:
                helpers.sync(0, helpers.raise_error, KeyError)
            except RuntimeError:
                pass
        agent.shutdown()
        """,
        f"file://{tmp_path}/meeting",
    )


def test_views_of_one_memory_in_several_arguments(tmp_path):
    """A function with a schema sees that its arguments are views of one memory."""
    numpy = pytest.importorskip("numpy")
    seen = []

    def share(first, second):
        first[0] = 7
        seen.append((float(second[0]), numpy.shares_memory(first, second)))

    agent = _C.Agent("worker0", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    agent.register("test::share(Tensor a, Tensor b) -> None", share)
    agent.join()
    _C.set_current_agent(agent)
    try:
        base = numpy.zeros(8)
        sync(0, "test::share", base[:4], base[:2])
        assert seen == [(7.0, True)]
    finally:
        agent.shutdown()
        _C.reset_current_agent()


# ---- agents ----


class Index:
    def __init__(self, change):
        self.change = change

    def __index__(self):
        self.change()
        return 0


def test_a_device_map_that_grows(agent):
    table = {}
    table[("cuda", Index(lambda: table.update({("cuda", i): ("cuda", i) for i in range(1000)})))] = ("cuda", 0)
    try:
        agent.set_device_map("worker0", table)
    except (RuntimeError, TypeError, ValueError):
        pass


def test_an_agent_keeps_its_store():
    """The server that the store hosts is there as long as the agent."""
    agent = _C.Agent("worker0")
    table = store.TCPStore("localhost", 0, is_master=True)
    port, gone = table.port, weakref.ref(table)
    agent.join(table, 0, 1)
    del table
    gc.collect()
    assert gone() is not None
    other = store.TCPStore("localhost", port, is_master=False)
    other.set("key", "value")
    assert other.get("key") == b"value"
    del other
    agent.shutdown()
    assert gone() is None


def test_an_agent_whose_joining_failed_is_dropped(tmp_path):
    agent = _C.Agent("worker0", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=2, join_timeout_ms=100)
    agent.on_member(lambda *event: None)
    with pytest.raises(RuntimeError, match="missing"):
        agent.join()
    gone = weakref.ref(agent)
    del agent
    await_end_of(gone)


class Interrupted(Exception):
    pass


def interrupt(*_):
    raise Interrupted


def test_a_shutdown_that_is_interrupted_goes_on(tmp_path):
    """Whatever the handler raises: there is no second one beside it."""
    agent = helpers.join(0, 1, f"file://{tmp_path}/meeting")
    release = threading.Event()
    waits[:] = [release]
    call_async(0, wait_for_release)
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1)).start()
        with pytest.raises(Interrupted):
            agent.shutdown()
        with pytest.raises(RuntimeError, match="being shut down already"):
            agent.shutdown()
    finally:
        signal.signal(signal.SIGUSR1, before)
        release.set()
    deadline = time.monotonic() + LIMIT_SECONDS
    while "shut down" not in repr(agent) and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(RuntimeError, match="has been shut down"):
        agent.shutdown()
    _C.reset_current_agent()


waits = []


def wait_for_release():
    waits[0].wait(LIMIT_SECONDS)


# ---- stores ----


def test_a_store_on_itself():
    first = store.PrefixStore("a", OwnStore())
    second = store.PrefixStore("b", first)
    first.__init__("a", second)
    with pytest.raises(RecursionError):
        store.PrefixStore("c", first)
    with pytest.raises(RecursionError):
        second.set("key", "value")


# ---- interpreters ----


def test_a_program_with_subinterpreters(tmp_path):
    """With one, CPython says of every thread that it has the GIL."""
    run_script(
        """
        import _xxsubinterpreters, threading
        import core_helpers as helpers
        from tendril import _C
        other = _xxsubinterpreters.create()
        agent = helpers.join(0, 1, sys.argv[2])
        def storm():
            for i in range(500):
                helpers.sync(0, helpers.identity, "x" * 70_000)
                helpers.sync(0, helpers.identity, helpers.Counter(i))
                helpers.remote(0, helpers.Counter, i).to_here()
        threads = [threading.Thread(target=storm) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        _xxsubinterpreters.run_string(other, "x = [object() for _ in range(1000)]")
        agent.shutdown()
        """,
        f"file://{tmp_path}/meeting",
    )


def test_importing_at_the_end():
    """Once the gate to Python is closed, the module cannot be made anew."""
    output, _ = run_script(
        """
        import atexit
        @atexit.register
        def again():
            import importlib
            del sys.modules["tendril._C"]
            try:
                importlib.import_module("tendril._C")
            except ImportError as error:
                print(error)
        from tendril import _C
        """
    )
    assert "again" in output
