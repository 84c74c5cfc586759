# SPDX-License-Identifier: Apache-2.0
"""Waits: what others do meanwhile, and how they end."""

import datetime
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tendril import store

LONG = datetime.timedelta(seconds=40)

MAKERS = {
    "hash": "store.HashStore()",
    "file": "store.FileStore(sys.argv[1] + '/table', 1)",
    "tcp": "store.TCPStore('127.0.0.1', 0, is_master=True)",
    "prefix": "store.PrefixStore('a', store.HashStore())",
}


@pytest.fixture(params=list(MAKERS))
def table(request, tmp_path):
    if request.param == "hash":
        return store.HashStore()
    if request.param == "file":
        return store.FileStore(str(tmp_path / "table"), 1)
    if request.param == "tcp":
        return store.TCPStore("127.0.0.1", 0, is_master=True)
    return store.PrefixStore("a", store.HashStore())


@pytest.mark.parametrize("in_main_thread", [True, False])
def test_others_run_meanwhile(table, in_main_thread):
    """The waiter ends by what another thread does only after it has counted: with the GIL held that could not be."""
    counted = 0
    results = []

    def count():
        nonlocal counted
        while counted < 50:
            counted += 1
            time.sleep(0.001)
        table.set("key", str(counted))

    def wait():
        table.wait(["key"], LONG)
        results.append(table.get("key"))

    first, second = (wait, count) if in_main_thread else (count, wait)
    thread = threading.Thread(target=second)
    thread.start()
    first()
    thread.join()
    assert results == [b"50"]


def test_get_waits(table):
    table.set_timeout(LONG)
    thread = threading.Timer(0.05, table.set, ("key", "value"))
    thread.start()
    assert table.get("key") == b"value"
    thread.join()


def test_no_limit(table):
    table.set_timeout(datetime.timedelta(0))
    thread = threading.Timer(0.05, table.set, ("key", "value"))
    thread.start()
    table.wait(["key"])
    assert table.get("key") == b"value"
    thread.join()


def test_many_threads(table):
    def work(number):
        for _ in range(20):
            table.add("sum", 1)
        table.set(f"done{number}", "")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    table.wait([f"done{number}" for number in range(5)], LONG)
    for thread in threads:
        thread.join()
    assert table.get("sum") == b"100"


def _interrupt(program, directory):
    """Runs a program, sends SIGINT once it has printed a line, and gives what it prints afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        assert process.stdout.readline() == "waiting\n", process.stderr.read()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors
    return output


@pytest.mark.parametrize("kind", list(MAKERS))
@pytest.mark.parametrize("wait", ["table.wait(['k'])", "table.get('k')", "table.wait(['k'], datetime.timedelta(0))"])
def test_signal_ends_a_wait(kind, wait, tmp_path):
    output = _interrupt(
        f"""
import datetime, signal, sys
from tendril import store
signal.signal(signal.SIGINT, signal.default_int_handler)
table = {MAKERS[kind]}
print("waiting", flush=True)
try:
    {wait}
except KeyboardInterrupt:
    table.set("k", "v")
    print("interrupted", table.get("k").decode())
""",
        tmp_path,
    )
    assert output == "interrupted v\n"


@pytest.mark.parametrize("arguments", ["port, timeout=100.0", "0, 2, True, 100.0"], ids=["client", "host"])
def test_signal_ends_opening(arguments, tmp_path):
    output = _interrupt(
        f"""
import signal, socket, sys
from tendril import store
signal.signal(signal.SIGINT, signal.default_int_handler)
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
print("waiting", flush=True)
try:
    store.TCPStore("127.0.0.1", {arguments})
except KeyboardInterrupt:
    print("interrupted")
""",
        tmp_path,
    )
    assert output == "interrupted\n"


def test_fork_leaves_stores_behind(tmp_path):
    code = f"""
import os
from tendril import store
tables = [store.HashStore(), store.FileStore({str(tmp_path / "table")!r}, 2),
          store.TCPStore("127.0.0.1", 0, is_master=True)]
child = os.fork()
if child == 0:
    for table in tables:
        try:
            table.set("a", "b")
        except RuntimeError as error:
            assert "parent process" in str(error), error
        else:
            os._exit(1)
    del tables, table
    os._exit(0)
_, code = os.waitpid(child, 0)
for table in tables:
    table.set("a", "b")
    assert table.get("a") == b"b"
print(os.waitstatus_to_exitcode(code))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr
