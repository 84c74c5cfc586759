# SPDX-License-Identifier: Apache-2.0
"""The ends of things: processes that exit with calls under way, forks, signals, subinterpreters, and what is left."""

import gc
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import core_helpers as helpers
import pytest
from core_helpers import Counter, add, call_async, remote, sync

from tendril import _C

LIMIT_SECONDS = 60


def run_script(text, *arguments, code=0, **options):
    """Runs a program that may use the helpers; gives what it printed."""
    program = "import sys; sys.path.insert(0, sys.argv[1])\n" + textwrap.dedent(text)
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program, os.path.dirname(__file__), *map(str, arguments)],
        capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False, **options,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def test_exit_without_shutdown(tmp_path):
    for ending in ("", "sys.exit(0)", "del agent", "_C.reset_current_agent(); del agent", "agent.abort()"):
        _, errors = run_script(
            f"""
            import core_helpers as helpers
            from tendril import _C
            agent = helpers.join(0, 1, sys.argv[2])
            helpers.sync(0, helpers.add, 1, 2)
            {ending}
            """,
            f"file://{tmp_path}/{hash(ending)}",
        )
        assert errors == ""


def test_exit_with_calls_under_way(tmp_path):
    for i, use in enumerate(("call_async(0, helpers.sleep, 30)", "call_async(0, spin)", "remote(0, spin)",
                             "call_async(0, helpers.sleep, 30).then(print)",
                             "call_async(0, helpers.sleep, 0.2).add_done_callback(lambda future: spin())",
                             "kept.append(_C.PyRRef(helpers.Counter()))")):
        run_script(
            f"""
            import time
            import core_helpers as helpers
            from tendril import _C
            def spin():
                while True:
                    pass
            agent = helpers.join(0, 1, sys.argv[2])
            kept = []
            for _ in range(5):
                kept.append(helpers.{use} if "kept.append" not in {use!r} else {use.replace("kept.append", "")})
            time.sleep(0.3)
            """,
            f"file://{tmp_path}/{i}",
        )


def test_exit_in_the_midst_of_a_storm(tmp_path):
    run_script(
        """
        import threading, time
        import core_helpers as helpers
        agent = helpers.join(0, 1, sys.argv[2])
        def storm():
            while True:
                helpers.call_async(0, helpers.add, 1, 2).then(lambda future: future.wait())
                helpers.remote(0, helpers.Counter)
        for _ in range(4):
            threading.Thread(target=storm, daemon=True).start()
        time.sleep(0.5)
        """,
        f"file://{tmp_path}/meeting",
    )


def test_shutdown_by_atexit(tmp_path):
    output, _ = run_script(
        """
        import atexit
        import core_helpers as helpers
        agent = helpers.join(0, 1, sys.argv[2])
        @atexit.register
        def leave():
            print(helpers.sync(0, helpers.add, 1, 2))
            agent.shutdown()
            print("left")
        """,
        f"file://{tmp_path}/meeting",
    )
    assert output == "3\nleft\n"


def _die(rank, size, url):
    agent = helpers.join(rank, size, url)
    if rank == 0:
        pending = [call_async("worker1", helpers.sleep, 30) for _ in range(3)]
        rref = remote("worker1", Counter)
        rref.to_here()
        call_async("worker1", os._exit, 9)
        for future in pending:
            with pytest.raises(RuntimeError) as info:
                future.wait()
            assert info.value.status in ("TDR_EWORKERGONE", "TDR_EUNKNOWN_OUTCOME")
        with pytest.raises(RuntimeError):
            rref.to_here()
        with pytest.raises(RuntimeError):
            agent.shutdown(timeout=5)
        with pytest.raises(RuntimeError, match="has been shut down"):
            agent.shutdown()
    else:
        time.sleep(30)


def test_a_dead_worker(group):
    group(2, _die, may_die=(1,))


def test_fork(tmp_path):
    output, errors = run_script(
        """
        import gc, os
        import core_helpers as helpers
        from tendril import _C
        agent = helpers.join(0, 1, sys.argv[2])
        rref = helpers.remote(0, helpers.Counter)
        mine = _C.PyRRef(helpers.Counter())
        pending = [helpers.call_async(0, helpers.sleep, 0.5) for _ in range(5)]
        chained = pending[0].then(lambda future: future.wait())
        pid = os.fork()
        if pid == 0:
            for what in (lambda: helpers.sync(0, helpers.add, 1), lambda: helpers.call_async(0, helpers.add, 1).wait(),
                         lambda: helpers.remote(0, helpers.add, 1), rref.to_here, pending[1].wait, agent.barrier,
                         lambda: _C.PyRRef(1), agent.shutdown):
                try:
                    what()
                except RuntimeError as error:
                    assert "parent" in str(error) or "shut down" in str(error), error
                else:
                    raise AssertionError("a handle of the parent's works in the child")
            future = _C.Future()
            future.set_result(3)
            assert future.wait() == 3
            del rref, mine, pending, chained, agent, future
            _C.reset_current_agent()
            gc.collect()
            again = helpers.join(0, 1, sys.argv[2] + "child")
            assert helpers.sync(0, helpers.add, 1, 2) == 3
            assert helpers.call_async(0, helpers.add, 1, 2).then(lambda future: future.wait()).wait() == 3
            again.shutdown()
            print("child", flush=True)
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert [future.wait() for future in pending] == [0.5] * 5
        assert chained.wait() == 0.5
        assert helpers.sync(0, helpers.add, 1, 2) == 3
        agent.shutdown()
        print("parent")
        """,
        f"file://{tmp_path}/meeting",
    )
    assert output == "child\nparent\n", errors


@pytest.mark.parametrize("what", [
    "helpers.sync(0, helpers.sleep, 5)",
    "helpers.call_async(0, helpers.sleep, 5).wait()",
    "helpers.remote(0, helpers.sleep, 5).to_here()",
    "helpers.remote(0, helpers.sleep, 5).local_value()",
    "_C.Future().wait()",
    "agent.barrier(['worker0', 'worker1'])",
    "_C.Agent('b', init_method=sys.argv[2] + 'b', rank=0, world_size=2).join()",
    "agent.shutdown()",
])
def test_control_c(tmp_path, what):
    output, _ = run_script(
        f"""
        import os, signal, threading, time
        import core_helpers as helpers
        from tendril import _C
        size = 2 if "worker1" in {what!r} else 1
        agent = helpers.join(0, 1, sys.argv[2]) if size == 1 else None
        if size == 2:
            other = _C.Agent("worker1", init_method=sys.argv[2], rank=1, world_size=2)
            thread = threading.Thread(target=other.join)
            thread.start()
            agent = helpers.join(0, 2, sys.argv[2])
            thread.join()
        if "shutdown" in {what!r}:
            helpers.call_async(0, helpers.sleep, 5)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            {what}
        except KeyboardInterrupt:
            print("interrupted")
        """,
        f"file://{tmp_path}/meeting",
    )
    assert output == "interrupted\n"


@pytest.mark.parametrize("call", [helpers.call_async, helpers.remote, helpers.sync])
def test_control_c_ends_waiting_for_credit(tmp_path, call):
    """Whoever has used up its credit with a worker that does not go on waits before the call can leave."""
    arguments = [os.path.dirname(__file__), f"file://{tmp_path}/meeting"]
    path = "import sys; sys.path.insert(0, sys.argv[1])\nimport core_helpers as helpers\n"
    stopped = subprocess.Popen(
        [sys.executable, "-c", f"{path}agent = helpers.join(1, 2, sys.argv[2], credit_bytes=200_000)\ninput()",
         *arguments],
        stdin=subprocess.PIPE,
    )
    try:
        output, _ = run_script(
            f"""
            import os, signal, threading
            import core_helpers as helpers
            agent = helpers.join(0, 2, sys.argv[2])
            helpers.sync("worker1", helpers.add, 1, 2)
            os.kill({stopped.pid}, signal.SIGSTOP)
            threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
            kept = []
            try:
                while True:
                    kept.append(helpers.{call.__name__}("worker1", len, bytes(60_000), timeout=0.0))
            except KeyboardInterrupt:
                print("interrupted", len(kept) < 100)
            os.kill({stopped.pid}, signal.SIGCONT)
            if kept:
                kept[0].wait() if hasattr(kept[0], "wait") else kept[0].to_here()
            print(helpers.sync("worker1", helpers.add, 1, 2))
            agent.abort()
            """,
            arguments[1],
        )
    finally:
        stopped.kill()
        stopped.wait()
    assert output == "interrupted True\n3\n"


def test_subinterpreters_are_refused():
    output, _ = run_script(
        """
        from tendril import _C
        import _xxsubinterpreters as interpreters
        other = interpreters.create()
        try:
            interpreters.run_string(other, f"import sys; sys.path[:] = {sys.path!r}; from tendril import _C")
        except interpreters.RunFailedError as error:
            print(error)
        """
    )
    assert "subinterpreter" in output


def test_importing_again_gives_the_same_types():
    output, _ = run_script(
        """
        from tendril import _C
        first = _C.Future
        del sys.modules["tendril._C"]
        import importlib
        print(importlib.import_module("tendril._C").Future is first)
        """
    )
    assert output == "True\n"


def test_joining_fails(tmp_path):
    with pytest.raises(RuntimeError, match="missing"):
        helpers.join(0, 2, f"file://{tmp_path}/meeting", join_timeout_ms=200)
    _C.reset_current_agent()
    agent = _C.Agent("a", init_method="nonsense://", rank=0, world_size=1)
    with pytest.raises(RuntimeError, match="nonsense"):
        agent.join()
    with pytest.raises(RuntimeError, match="joined before"):
        agent.join()


def test_joining_again(tmp_path):
    for i in range(5):
        agent = helpers.join(0, 1, f"file://{tmp_path}/{i}")
        future = call_async(0, add, 1, 2)
        rref = remote(0, Counter, 2)
        assert rref.to_here().count == 2
        agent.shutdown()
        _C.reset_current_agent()
        assert future.wait() == 3
        with pytest.raises(RuntimeError, match="shut down"):
            agent.barrier()
    del future, rref
    gc.collect()


def shut_down_here():
    _C.current_agent().shutdown()


def test_shutdown_inside_a_function(tmp_path):
    agent = helpers.join(0, 1, f"file://{tmp_path}/meeting")
    with pytest.raises(RuntimeError, match="inside"):
        sync(0, shut_down_here)
    assert sync(0, add, 1, 2) == 3
    agent.shutdown()
    _C.reset_current_agent()


def _members(rank, size, url):
    seen = []
    agent = _C.Agent(f"worker{rank}", init_method=url, rank=rank, world_size=0)
    agent.on_member(lambda *event: seen.append(event))
    agent.join()
    _C.set_current_agent(agent)
    assert not agent.is_static
    deadline = time.monotonic() + LIMIT_SECONDS
    while len(agent.worker_infos()) < size and time.monotonic() < deadline:
        time.sleep(0.01)
    if rank == 0:
        assert sync("worker1", add, 1, 2) == 3
        while not any(event[1] == "left" for event in seen) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (_C.WorkerInfo("worker1", 1), "left") in [event[:2] for event in seen]
    else:
        time.sleep(0.5)
    agent.shutdown(timeout=20)


def test_members_that_come_and_go(group):
    group(2, _members)


def peak():
    """The most memory that this process has had, in KiB; 0 where a sanitizer keeps what is freed."""
    return 0 if "asan" in os.environ.get("LD_PRELOAD", "") else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_nothing_is_left_behind(tmp_path):
    """Calls of all kinds leave no objects and no memory behind; see also test_endurance.py."""
    agent = helpers.join(0, 1, f"file://{tmp_path}/meeting")
    sentinel = Counter()
    gone = weakref.ref(sentinel)

    def round_of(count):
        for i in range(count):
            sync(0, add, i, 2)
            call_async(0, add, i, c=2).wait()
            call_async(0, add, i).then(lambda future: future.value()).wait()
            if i % 5 == 0:
                remote(0, Counter, i).to_here()
                sync(0, helpers.identity, Counter(i))
                _C.PyRRef([i]).to_here()
                try:
                    sync(0, int, "x")
                except ValueError:
                    pass

    quiet = os.open(os.devnull, os.O_WRONLY)
    stderr = sys.stderr
    sys.stderr = open(quiet, "w")  # noqa: SIM115
    try:
        round_of(2000)
        gc.collect()
        before, objects = peak(), len(gc.get_objects())
        counts = {type(None): sys.getrefcount(None), add: sys.getrefcount(add)}
        round_of(6000)
        gc.collect()
        assert len(gc.get_objects()) < objects + 500
        assert sys.getrefcount(None) < counts[type(None)] + 500
        assert sys.getrefcount(add) < counts[add] + 50
        assert peak() < before + 16 * 1024
    finally:
        sys.stderr.close()
        sys.stderr = stderr
    future = call_async(0, helpers.identity, 1)
    future.add_done_callback(lambda _, held=sentinel: None)
    future.wait()
    rref = _C.PyRRef(sentinel)
    del sentinel, rref, future
    deadline = time.monotonic() + LIMIT_SECONDS
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert gone() is None
    agent.shutdown()
    _C.reset_current_agent()


def blocked_signals():
    return len(signal.pthread_sigmask(signal.SIG_BLOCK, []))


def test_functions_block_no_signals(tmp_path):
    """Processes that a function starts inherit what its thread blocks."""
    agent = helpers.join(0, 1, f"file://{tmp_path}/meeting")
    before = blocked_signals()
    assert sync(0, blocked_signals) == before
    assert call_async(0, helpers.sleep, 0.1).then(lambda _: blocked_signals()).wait() == before
    agent.shutdown()
    _C.reset_current_agent()


def test_signals_reach_the_main_thread(tmp_path):
    """A handler that does not raise leaves a wait going."""
    seen = []
    agent = helpers.join(0, 1, f"file://{tmp_path}/meeting")
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(threading.current_thread()))
    try:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        assert sync(0, helpers.sleep, 0.5) == 0.5
        assert seen == [threading.main_thread()]
    finally:
        signal.signal(signal.SIGUSR1, before)
        agent.shutdown()
        _C.reset_current_agent()
