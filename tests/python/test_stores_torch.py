# SPDX-License-Identifier: Apache-2.0
"""Stores of torch.distributed for this package, and the reverse."""

import contextlib
import datetime
import gc
import os
import queue
import signal
import socket
import subprocess
import sys
import threading

import pytest

torch = pytest.importorskip("torch")
from torch import distributed  # noqa: E402

from store_helpers import OwnStore, Table, leave_in_order  # noqa: E402
from tendril import store  # noqa: E402
from tendril.torch.store import TorchStore, as_torch_store  # noqa: E402
from test_stores_adapters import meet  # noqa: E402

LONG = datetime.timedelta(seconds=40)
SHORT = datetime.timedelta(milliseconds=50)


def make_torch(kind, tmp_path):
    if kind == "hash":
        return distributed.HashStore()
    if kind == "file":
        return distributed.FileStore(str(tmp_path / "table"), 1)
    if kind == "tcp":
        return distributed.TCPStore("127.0.0.1", 0, None, True, LONG)
    if kind == "prefix":
        return distributed.PrefixStore("a", distributed.HashStore())
    if kind == "prefix of tcp":
        return distributed.PrefixStore("a", distributed.TCPStore("127.0.0.1", 0, None, True, LONG))
    return TorchStore(store.HashStore())


KINDS = ["hash", "file", "tcp", "prefix", "prefix of tcp", "derived"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ours", [False, True])
def test_groups_meet_in_stores_of_torch(kind, ours, tmp_path):
    table = make_torch(kind, tmp_path)
    if ours:
        table = store.PrefixStore("ours", table)
    assert meet([table, table], 2) == [None, None]
    # The store is as good as before.
    table.set("a", "b")
    assert table.get("a") == b"b"


@pytest.mark.parametrize("kind", KINDS)
def test_prefix_over_torch(kind, tmp_path):
    below = make_torch(kind, tmp_path)
    table = store.PrefixStore("p", below)
    table.set("a", b"\x00\xff")
    assert table.get("a") == below.get("p/a") == b"\x00\xff"
    assert table.add("n", 3) == 3
    table.set_timeout(SHORT)
    assert below.timeout == table.timeout == SHORT
    with pytest.raises(RuntimeError, match="(?i)timeout"):
        table.wait(["missing"], SHORT)


MAKERS = [store.HashStore, OwnStore, Table, lambda: store.PrefixStore("a", store.HashStore())]


@pytest.mark.parametrize("make", MAKERS)
def test_stores_for_torch(make):
    below = make()
    table = TorchStore(below)
    assert isinstance(table, distributed.Store)
    assert table.underlying_store is below
    assert as_torch_store(table) is table
    assert as_torch_store(below).underlying_store is below
    assert table.timeout == below.timeout
    # Through torch's C++ code as well.
    for view in (table, distributed.PrefixStore("cxx", table)):
        view.set("a", "b")
        assert view.get("a") == b"b"
        assert view.add("n", 2) == 2
        assert view.compare_set("c", "", "d") == b"d"
        view.wait(["a", "n"])
        view.wait(["a"], LONG)
        assert view.num_keys() > 0
        assert view.delete_key("a")
        view.set_timeout(SHORT)
        with pytest.raises((RuntimeError, TimeoutError), match="(?i)timeout"):
            view.get("a")
        with pytest.raises((RuntimeError, TimeoutError), match="(?i)timeout"):
            view.wait(["a"], SHORT)


def test_exceptions_come_through_torch():
    class Mine(OwnStore):
        def add(self, key, amount):
            raise LookupError("nothing to add to")

    table = TorchStore(Mine())
    with pytest.raises((LookupError, RuntimeError), match="nothing to add to"):
        distributed.PrefixStore("a", table).add("k", 1)


class Relay:
    """Stands between a store's server and its clients. Once it is `silent`, new ones that ask get no answer."""

    def __init__(self, port):
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.silent = False
        self.unanswered = queue.Queue()
        self._start(self._accept)

    @staticmethod
    def _start(function, *arguments):
        threading.Thread(target=function, args=arguments, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self._listener.accept()
            if self.silent:
                self._start(self._listen, client)
                continue
            server = socket.create_connection(self._server)
            self._start(self._pump, client, server)
            self._start(self._pump, server, client)

    def _listen(self, client):
        if client.recv(1):  # torch's second one, which may be late, says nothing
            self.unanswered.put(client)

    @staticmethod
    def _pump(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                target.sendall(data)


CONNECTING = """
import signal, sys
from torch import distributed
from tendril import store
signal.signal(signal.SIGINT, signal.default_int_handler)
table = distributed.TCPStore("127.0.0.1", int(sys.argv[1]), None, False, wait_for_workers=False)
print("connected", flush=True)
sys.stdin.readline()
try:
    store.PrefixStore("a", table)
except KeyboardInterrupt:
    print("interrupted", flush=True)
sys.stdin.readline()
"""


def interrupted_while_connecting():
    """Ends by Ctrl-C the wait for a server that does not answer. False: the wait was over before."""
    server = distributed.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    relay = Relay(server.port)
    process = subprocess.Popen(
        [sys.executable, "-c", CONNECTING, str(relay.port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        assert process.stdout.readline() == "connected\n"
        relay.silent = True
        process.stdin.write("\n")
        process.stdin.flush()
        with relay.unanswered.get(timeout=60) as connection:
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n"
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while connection.recv(4096):
                    pass
                return False  # the connection has been given up
            return True
    finally:
        process.kill()
        process.communicate()


def test_signal_ends_connecting():
    assert any(interrupted_while_connecting() for _ in range(5))


def gloo(rank, world_size, url, kind, port):
    if kind == "file":
        table = store.FileStore(url[len("file://") :] + ".ours", world_size)
    else:
        table = store.TCPStore("127.0.0.1", port, world_size, rank == 0, LONG)
    kept = TorchStore(table)
    distributed.init_process_group("gloo", store=kept, rank=rank, world_size=world_size)
    tensor = torch.ones(3) * (rank + 1)
    distributed.all_reduce(tensor)
    distributed.barrier()
    distributed.destroy_process_group()
    leave_in_order(url, rank, world_size)
    return tensor.tolist()


@pytest.mark.parametrize("kind", ["file", "tcp"])
def test_process_groups(group, kind):
    port = store.TCPStore("127.0.0.1", 0, is_master=True).port
    gc.collect()
    assert group(2, gloo, kind, port, limit=180.0) == [[3.0] * 3] * 2


def test_torch_is_not_held_up():
    """Who waits in torch's C++ code for what another thread of Python's has yet to store gets it."""
    table = TorchStore(store.HashStore())
    view = distributed.PrefixStore("a", table)
    view.set_timeout(LONG)
    thread = threading.Timer(0.05, table.set, ("a/k", "v"))
    thread.start()
    assert view.get("k") == b"v"
    thread.join()


def test_references_do_not_pile_up():
    below = store.HashStore()
    TorchStore(below).set("a", "b")
    gc.collect()
    before = sys.getrefcount(below)
    for _ in range(20):
        TorchStore(below).set("a", "b")
    gc.collect()
    assert sys.getrefcount(below) == before
