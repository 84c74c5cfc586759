# SPDX-License-Identifier: Apache-2.0
"""What must hold whatever happens: many threads at once, ends in the middle of things, forks, and very many calls."""

import gc
import os
import resource
import subprocess
import sys
import threading
import time

import core_helpers as helpers
import pytest
from core_helpers import Counter, add, call_async, member, remote, sync
from test_core_life import run_script

from tendril import _C

LIMIT_SECONDS = 60
LONG_SECONDS = 600
"""Longer than any test may take: nobody waits for it to pass."""

GONE = {"TDR_EWORKERGONE", "TDR_EUNKNOWN_OUTCOME", "TDR_ESHUTDOWN"}
"""How calls end whose callee has ended without leaving."""


# ---- many threads ----


def check_calls(to, seed, count, errors):
    """Calls of all kinds, each with a result that no other one has."""
    try:
        for i in range(seed, seed + count):
            kind = i % 6
            if kind == 0:
                assert sync(to, add, i, 1) == i + 1
            elif kind == 1:
                assert call_async(to, add, i, c=2).wait() == i + 2
            elif kind == 2:
                assert call_async(to, add, i).then(lambda future, i=i: (i, future.value())).wait() == (i, i)
            elif kind == 3:
                assert remote(to, Counter, i).to_here().count == i
            elif kind == 4:
                assert sync(to, helpers.identity, {"text": str(i) * 50, "list": [i] * 5}) == {
                    "text": str(i) * 50,
                    "list": [i] * 5,
                }
            else:
                with pytest.raises(ValueError, match=f"'x{i}'"):
                    sync(to, int, f"x{i}")
    except BaseException as error:
        errors.append(error)
        raise


def _many_threads(rank, size, url):
    with member(rank, size, url), open(os.devnull, "w") as quiet:
        sys.stderr = quiet  # where the errors that are asked for are printed
        errors = []
        threads = [
            threading.Thread(target=check_calls, args=(f"worker{1 - rank}", rank * 1_000_000 + i * 10_000, 625, errors))
            for i in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sys.stderr = sys.__stderr__
        assert not errors, errors


def test_ten_thousand_calls_from_sixteen_threads(group):
    """Each way, at the same time."""
    group(2, _many_threads, limit=120)


# ---- ends in the middle ----

arrived = threading.Semaphore(0)


def arrive_and_stay():
    """Served by who is about to end."""
    arrived.release()
    time.sleep(LONG_SECONDS)


ENDER = """
import os, signal, sys, threading, time
sys.path.insert(0, sys.argv[1])
import core_helpers as helpers
import test_endurance as here
agent = helpers.join(0, 2, sys.argv[2])
pending = [helpers.call_async("worker1", helpers.sleep, here.LONG_SECONDS) for _ in range(4)]
chained = [future.then(lambda future: future.value()) for future in pending]
rref = helpers.remote("worker1", helpers.sleep, here.LONG_SECONDS)
for _ in range(4):
    assert here.arrived.acquire(timeout=here.LIMIT_SECONDS)
"""

OTHER = """
import sys, time
sys.path.insert(0, sys.argv[1])
import core_helpers as helpers
import test_endurance as here
agent = helpers.join(1, 2, sys.argv[2])
pending = [helpers.call_async("worker0", here.arrive_and_stay) for _ in range(4)]
for future in [*pending, None]:
    try:
        future.wait() if future else helpers.sync("worker0", helpers.add, 1, 2)
    except RuntimeError as error:
        print(error.status)
try:
    agent.shutdown(timeout=0.1)
except RuntimeError:
    pass
print("left", flush=True)
"""

ENDINGS = {
    "sys.exit": ("sys.exit(3)", 3),
    "os._exit": ("os._exit(4)", 4),
    "falling off the end": ("", 0),
    "an exception": ("raise ValueError('the end')", 1),
    "Ctrl-C": ("os.kill(os.getpid(), signal.SIGINT); time.sleep(here.LONG_SECONDS)", -2),
    "Ctrl-C in a wait": (
        "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start(); pending[0].wait()", -2),
    "a daemon thread that waits in rpc_sync": (
        "threading.Thread(target=helpers.sync, args=('worker1', helpers.sleep, here.LONG_SECONDS), daemon=True)"
        ".start(); time.sleep(0.3); sys.exit(5)", 5),
    "daemon threads that wait for futures and references": (
        "[threading.Thread(target=what, daemon=True).start() for what in (pending[0].wait, chained[0].wait, "
        "rref.to_here, helpers._C.Future().wait, agent.barrier)]; time.sleep(0.3); sys.exit(6)", 6),
    "daemon threads that go on calling": (
        "[threading.Thread(target=here.call_for_ever, args=('worker1',), daemon=True).start() for _ in range(4)]; "
        "time.sleep(0.3); sys.exit(7)", 7),
    "an atexit function that calls": (
        "import atexit; atexit.register(lambda: os._exit(helpers.sync('worker1', helpers.add, 4, 4)))", 8),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -9),
}


def call_for_ever(to):
    while True:
        sync(to, helpers.identity, Counter(1))
        call_async(to, add, 1, 2).then(lambda future: future.wait())
        remote(to, Counter).to_here()


@pytest.mark.parametrize("ending", ENDINGS)
def test_ending_with_calls_under_way(tmp_path, ending):
    """Calls go both ways: the process ends by itself with its own exit code, and the other member learns of it."""
    line, code = ENDINGS[ending]
    arguments = [os.path.dirname(__file__), f"file://{tmp_path}/meeting"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", program, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for program in (ENDER + line, OTHER)
    ]
    try:
        outputs = [process.communicate(timeout=LIMIT_SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert processes[0].returncode == code, outputs
    assert "Fatal" not in outputs[0][1], outputs
    assert processes[1].returncode == 0, outputs
    seen = outputs[1][0].split()
    assert seen[-1] == "left", outputs
    assert len(seen) == 6, outputs
    assert set(seen[:-1]) <= GONE, outputs


# ---- forks ----


def test_forks_with_calls_under_way(tmp_path):
    """Children use what they have from their parent, drop it and end, whatever the parent's threads were at."""
    output, errors = run_script(
        """
        import gc, os, threading, time
        import core_helpers as helpers
        import test_endurance as here
        from tendril import _C, store
        agent = helpers.join(0, 1, sys.argv[2])
        table = store.TCPStore("localhost", 0, is_master=True)
        table.set("key", "value")
        stop = threading.Event()
        failures = []
        def storm():
            while not stop.is_set():
                here.check_calls(0, 0, 5, failures)
        sys.stderr = open(os.devnull, "w")
        threads = [threading.Thread(target=storm) for _ in range(4)]
        for thread in threads:
            thread.start()
        for i in range(20):
            rref = helpers.remote(0, helpers.Counter)
            mine = _C.PyRRef(helpers.Counter())
            pending = [helpers.call_async(0, helpers.identity, helpers.Counter(i)) for _ in range(5)]
            chained = [future.then(lambda future: future.value()) for future in pending]
            pid = os.fork()
            if pid == 0:
                for what in (lambda: helpers.sync(0, helpers.add, 1), rref.to_here, agent.shutdown):
                    try:
                        what()
                    except RuntimeError:
                        continue
                    os._exit(9)
                del rref, mine, pending, chained, agent, table
                _C.reset_current_agent()
                gc.collect()
                if i % 2:
                    os._exit(0)
                sys.exit(0)
            deadline = time.monotonic() + here.LIMIT_SECONDS / 2
            while time.monotonic() < deadline:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    break
                time.sleep(0.005)
            else:
                os.kill(pid, 6)
                failures.append(f"child {i} hangs")
                break
            if status:
                failures.append(f"child {i} ended with {status}")
            assert [future.wait().count for future in chained] == [i] * 5
        assert table.get("key") == b"value"
        stop.set()
        for thread in threads:
            thread.join()
        sys.stderr = sys.__stderr__
        assert not failures, failures
        agent.shutdown()
        print("parent")
        """,
        f"file://{tmp_path}/meeting",
    )
    assert output == "parent\n", errors


def test_forks_of_served_functions(tmp_path):
    """A function that is served forks: the child ends, and the parent goes on to answer."""
    output, errors = run_script(
        """
        import os
        import core_helpers as helpers
        import test_endurance as here
        agent = helpers.join(0, 1, sys.argv[2])
        print([helpers.sync(0, here.fork_and_wait, i) for i in range(3)])
        agent.shutdown()
        """,
        f"file://{tmp_path}/meeting",
    )
    assert output == "[0, 1, 2]\n", errors


def fork_and_wait(code):
    pid = os.fork()
    if pid == 0:
        _C.reset_current_agent()
        gc.collect()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# ---- what is left behind ----


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def settled_blocks():
    """Blocks of memory in use once what other threads drop has been dropped."""
    least = None
    for _ in range(20):
        gc.collect()
        blocks = sys.getallocatedblocks()
        if least is not None and blocks >= least:
            break
        least = blocks
        time.sleep(0.05)
    return least


def test_a_hundred_thousand_calls_leave_nothing(tmp_path, monkeypatch):
    """Neither objects nor memory, whatever kinds of calls they are and whatever they carry."""
    numpy = pytest.importorskip("numpy")
    small, large = numpy.arange(100.0), numpy.zeros(100_000)
    agent = helpers.join(0, 1, f"file://{tmp_path}/meeting")

    def round_of(count):
        for i in range(count):
            sync(0, add, i, 2)
            call_async(0, add, i, c=2).wait()
            call_async(0, add, i).then(lambda future: future.value()).wait()
            sync(0, helpers.identity, small)
            if i % 10 == 0:
                remote(0, Counter, i).to_here()
                call_async(0, helpers.identity, Counter(i)).add_done_callback(lambda _: None)
                _C.PyRRef([small]).to_here()
                with pytest.raises(ValueError):
                    sync(0, int, "x")
            if i % 100 == 0:
                sync(0, helpers.identity, {"large": large, "view": large[10:]})
                with pytest.raises(helpers.OddError):
                    remote(0, helpers.raise_odd).to_here()

    with open(os.devnull, "w") as quiet:
        monkeypatch.setattr(sys, "stderr", quiet)
        round_of(2500)
        blocks, memory = settled_blocks(), resident()
        round_of(23_000)
        assert settled_blocks() < blocks + 2000
        assert resident() < memory + 32 * 1024 * 1024
    agent.shutdown()
    _C.reset_current_agent()
