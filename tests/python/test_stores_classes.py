# SPDX-License-Identifier: Apache-2.0
"""What each class of stores does, and what it says when it cannot."""

import datetime
import gc
import os
import pickle
import weakref

import pytest

from store_helpers import OwnStore, Table, is_collected
from tendril import store

SHORT = datetime.timedelta(milliseconds=50)

KINDS = ["hash", "file", "tcp", "prefix", "python", "prefix over python"]


@pytest.fixture(params=KINDS)
def table(request, tmp_path):
    """A store of each kind, empty."""
    if request.param == "hash":
        return store.HashStore()
    if request.param == "file":
        return store.FileStore(str(tmp_path / "table"), 1)
    if request.param == "tcp":
        return store.TCPStore("127.0.0.1", 0, is_master=True)
    if request.param == "prefix":
        return store.PrefixStore("a", store.HashStore())
    if request.param == "python":
        return store.PrefixStore("a", OwnStore())
    return store.PrefixStore("b", store.PrefixStore("a", Table()))


def test_values(table):
    table.set("text", "grün")
    table.set("bytes", b"\x00\xff")
    table.set("empty", "")
    assert table.get("text") == "grün".encode()
    assert table.get("bytes") == b"\x00\xff"
    assert table.get("empty") == b""
    assert table.num_keys() == 3
    table.set("text", b"other")
    assert table.get("text") == b"other"


def test_add(table):
    assert table.add("n", 5) == 5
    assert table.add("n", -7) == -2
    assert table.get("n") == b"-2"
    table.set("word", "xyz")
    with pytest.raises(ValueError):
        table.add("word", 1)


def test_compare_set(table):
    assert table.compare_set("k", "x", "y") == b"x"
    assert table.num_keys() == 0
    assert table.compare_set("k", "", b"y") == b"y"
    assert table.compare_set("k", "x", "z") == b"y"
    assert table.compare_set("k", b"y", "z") == b"z"
    table.set("empty", "")
    assert table.compare_set("empty", "", "full") == b"full"


def test_delete_key(table):
    table.set("k", "v")
    assert table.delete_key("k") is True
    assert table.delete_key("k") is False
    assert table.num_keys() == 0


def test_wait(table):
    table.set("a", "1")
    assert table.wait([]) is None
    assert table.wait(["a"]) is None
    table.set("b", "1")
    assert table.wait(("a", "b"), SHORT) is None
    with pytest.raises((RuntimeError, TimeoutError), match="(?i)timeout"):
        table.wait(["a", "missing"], SHORT)


def test_get_of_what_does_not_come(table):
    table.set_timeout(SHORT)
    assert table.timeout == SHORT
    with pytest.raises((RuntimeError, TimeoutError), match="(?i)timeout"):
        table.get("missing")


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("set", (5, "a")),
        ("set", ("a", 5)),
        ("set", ("a",)),
        ("set", ("a", None)),
        ("set", (b"a", "b")),
        ("get", (5,)),
        ("get", ()),
        ("get", ("a", "b")),
        ("add", ("a", 1.5)),
        ("add", ("a", "1")),
        ("add", ("a", 2**64)),
        ("compare_set", ("a", "b")),
        ("compare_set", ("a", "b", 1)),
        ("wait", ("a",)),
        ("wait", ([1],)),
        ("wait", (["a"], "1")),
        ("wait", (["a"], None)),
        ("delete_key", (None,)),
        ("num_keys", (1,)),
        ("set_timeout", (None,)),
        ("set_timeout", ("1",)),
        ("check", ("a",)),
        ("multi_set", (["a"], [1])),
    ],
)
def test_wrong_arguments(table, method, arguments):
    with pytest.raises(TypeError, match="incompatible function arguments"):
        getattr(table, method)(*arguments)


def test_wrong_names_of_arguments():
    table = store.HashStore()
    table.set(key="a", value="b")
    assert table.get(key="a") == b"b"
    for arguments in ({"kye": "a"}, {"key": "a", "more": 1}):
        with pytest.raises(TypeError, match="incompatible function arguments"):
            table.get(**arguments)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        table.get("a", key="a")


@pytest.mark.parametrize("kind", ["hash", "prefix"])
def test_keys_that_are_none(kind):
    table = store.HashStore() if kind == "hash" else store.PrefixStore("p", store.HashStore())
    with pytest.raises(ValueError, match="NUL"):
        table.set("a\0b", "c")
    with pytest.raises(UnicodeEncodeError):
        table.set("\ud800", "c")
    with pytest.raises(UnicodeEncodeError):
        table.set("a", "\ud800")


def test_several_at_once():
    table = store.PrefixStore("p", store.HashStore())
    table.multi_set(["a", "b", "c"], ["1", b"2", ""])
    assert table.multi_get(["c", "a", "b"]) == [b"", b"1", b"2"]
    assert table.multi_get([]) == []
    assert table.check(["a", "b"]) is True
    assert table.check(["a", "d"]) is False
    table.append("a", "x")
    table.append("new", b"y")
    assert table.multi_get(["a", "new"]) == [b"1x", b"y"]
    assert table.has_extended_api()
    with pytest.raises(ValueError, match="2 keys and 1 values"):
        table.multi_set(["a", "b"], ["1"])
    with pytest.raises(RuntimeError, match="'p/d' did not appear"):
        table.set_timeout(SHORT)
        table.multi_get(["a", "d"])


def test_timeouts():
    table = store.HashStore()
    assert table.timeout == datetime.timedelta(seconds=300)
    for given, kept in (
        (datetime.timedelta(0), datetime.timedelta(0)),
        (datetime.timedelta(microseconds=1), datetime.timedelta(milliseconds=1)),
        (datetime.timedelta(days=2, milliseconds=7), datetime.timedelta(days=2, milliseconds=7)),
        (datetime.timedelta.max, datetime.timedelta(milliseconds=10**15)),
        (datetime.timedelta(seconds=-1), datetime.timedelta(milliseconds=1)),
        (1.5, datetime.timedelta(seconds=1.5)),
        (2, datetime.timedelta(seconds=2)),
    ):
        table.set_timeout(given)
        assert table.timeout == kept
    with pytest.raises(ValueError, match="finite"):
        table.set_timeout(float("nan"))
    with pytest.raises(AttributeError):
        table.timeout = SHORT


def test_texts_of_timeouts(tmp_path):
    hashed, filed = store.HashStore(), store.FileStore(str(tmp_path / "table"), 1)
    host = store.TCPStore("localhost", 0, is_master=True)
    for table, text in ((hashed, "Connection timed out"), (host, "Socket Timeout")):
        with pytest.raises(RuntimeError, match=f"Wait timeout.*{text}|{text}.*within 50 ms") as caught:
            table.wait(["k"], SHORT)
        assert "'k'" in str(caught.value)
        assert caught.value.status == "TDR_ETIMEDOUT"
    filed.set_timeout(SHORT)
    with pytest.raises(RuntimeError, match="Timeout waiting for key: k after 50 ms"):
        filed.get("k")


# ---- the base class ----


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("set", ("a", "b")),
        ("get", ("a",)),
        ("add", ("a", 1)),
        ("compare_set", ("a", "b", "c")),
        ("wait", (["a"],)),
        ("delete_key", ("a",)),
        ("num_keys", ()),
    ],
)
def test_base_class_does_nothing(method, arguments):
    class Mine(store.Store):
        pass

    for table in (store.Store(), Mine()):
        with pytest.raises(RuntimeError, match=f"does not implement {method}"):
            getattr(table, method)(*arguments)
        assert table.timeout == datetime.timedelta(seconds=300)
        table.set_timeout(SHORT)
        assert table.timeout == SHORT


def test_class_without_super():
    class Mine(store.TCPStore):
        def __init__(self):
            pass

    with pytest.raises(RuntimeError, match="super"):
        Mine().set("a", "b")


def test_classes():
    for kind in (store.HashStore, store.FileStore, store.TCPStore, store.PrefixStore):
        assert issubclass(kind, store.Store)
        assert kind.__module__ == "tendril.store"
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(store.HashStore())


# ---- prefixes ----


def test_prefixes_nest():
    bottom = store.HashStore()
    inner = store.PrefixStore("inner", bottom)
    outer = store.PrefixStore("outer", inner)
    outer.set("key", "value")
    assert bottom.get("inner/outer/key") == b"value"
    assert outer.underlying_store is inner
    assert (outer.prefix, inner.prefix) == ("outer", "inner")
    outer.set_timeout(SHORT)
    assert bottom.timeout == SHORT
    assert outer.num_keys() == bottom.num_keys() == 1


@pytest.mark.parametrize("make", [store.HashStore, OwnStore])
def test_prefixes_do_not_nest_without_end(make):
    bottom = make()
    table = bottom
    for _ in range(100):
        table = store.PrefixStore("p", table)
    table.set("key", "value")
    assert bottom.get("p/" * 100 + "key") == b"value"
    with pytest.raises(RecursionError, match="more than 100 PrefixStores"):
        store.PrefixStore("p", table)


def test_prefix_over_what_is_no_store():
    for other in (None, 5, object(), "store", store.Store()):
        with pytest.raises(TypeError, match="a store has the methods"):
            store.PrefixStore("a", other)
    with pytest.raises(TypeError):
        store.PrefixStore(5, store.HashStore())


# ---- files ----


def test_file_goes_with_its_last_user(tmp_path):
    path = str(tmp_path / "table")
    one, two = store.FileStore(path, 2), store.FileStore(path, 2)
    assert one.path == path
    one.set("a", "b")
    del one
    gc.collect()
    assert os.path.exists(path)
    assert two.get("a") == b"b"
    del two
    gc.collect()
    assert not os.path.exists(path)


def test_file_that_stays(tmp_path):
    table = store.FileStore(tmp_path / "table")
    table.set("a", "b")
    del table
    gc.collect()
    assert os.path.exists(tmp_path / "table")
    assert store.FileStore(tmp_path / "table", -1).get("a") == b"b"


def test_file_that_cannot_be():
    with pytest.raises(RuntimeError, match="No such file or directory"):
        store.FileStore("/nonexistent/table", 1)


# ---- servers ----


def test_servers():
    host = store.TCPStore("127.0.0.1", 0, is_master=True)
    assert host.host == "127.0.0.1"
    assert host.port > 0
    client = store.TCPStore("127.0.0.1", host.port, timeout=datetime.timedelta(seconds=20))
    assert client.timeout == datetime.timedelta(seconds=20)
    client.set("a", "b")
    assert host.get("a") == b"b"
    with pytest.raises(RuntimeError, match="Address already in use"):
        store.TCPStore("127.0.0.1", host.port, is_master=True)
    with pytest.raises(RuntimeError, match="Address already in use"):
        store.TCPStore("127.0.0.1", host.port, is_master=True, multi_tenant=True)


def test_server_is_shared_by_masters():
    one = store.TCPStore("127.0.0.1", 0, is_master=True, multi_tenant=True)
    two = store.TCPStore("127.0.0.1", one.port, is_master=True, multi_tenant=True)
    one.set("a", "b")
    port = one.port
    del one
    gc.collect()
    assert two.get("a") == b"b"
    del two
    gc.collect()
    with pytest.raises(TimeoutError, match="The client socket has timed out after .* trying to connect to"):
        store.TCPStore("127.0.0.1", port, timeout=SHORT)


def test_host_goes_on_without_workers():
    host = store.TCPStore("127.0.0.1", 0, 2, True, datetime.timedelta(milliseconds=100))
    assert host.num_keys() == 1


def test_workers_are_counted():
    host = store.TCPStore("127.0.0.1", 0, 1, True)
    store.TCPStore("127.0.0.1", host.port, 5)
    assert host.num_keys() == 1
    assert host.add("init/", 0) == 0


@pytest.mark.parametrize("port", [-1, 70000])
def test_ports_that_are_none(port):
    with pytest.raises(TypeError, match="incompatible constructor arguments"):
        store.TCPStore("127.0.0.1", port, is_master=True)


def test_client_needs_a_port():
    with pytest.raises(ValueError, match="port 0"):
        store.TCPStore("127.0.0.1", 0)


# ---- leaks ----


def test_nothing_is_left(tmp_path):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    def use():
        stores = [
            store.HashStore(),
            store.FileStore(str(tmp_path / "table"), 1),
            store.TCPStore("127.0.0.1", 0, 1, True),
            store.PrefixStore("a", OwnStore()),
        ]
        stores.append(store.PrefixStore("b", stores[2]))
        for table in stores:
            table.set("a", "b")
            table.get("a")
            if table is not stores[3]:
                table.check(["a"])
        return [weakref.ref(table) for table in stores]

    use()
    gc.collect()
    before = descriptors()
    for _ in range(5):
        references = use()
        gc.collect()
        assert [reference() for reference in references] == [None] * len(references)
    assert descriptors() == before


def test_cycles_are_found():
    class Mine(store.PrefixStore):
        pass

    table = Mine("a", OwnStore())
    table.underlying_store.back = table
    reference = weakref.ref(table)
    del table
    assert is_collected(reference)


def test_second_init_replaces():
    table = store.HashStore()
    table.set("a", "b")
    table.__init__()
    assert table.num_keys() == 0
