# SPDX-License-Identifier: Apache-2.0
"""From URLs to stores: what is checked, and what the environment says."""

import socket

import pytest

from tendril import rendezvous as meeting
from tendril import rpc, store
from tendril.rendezvous import rendezvous


@pytest.fixture
def port():
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((5,), "`url` must be a string"),
        (("file:///x", "0"), "`rank` must be an integer"),
        (("file:///x", 0, 1.5), "`world_size` must be an integer"),
        (("nowhere://x", 0, 1), "No rendezvous handler for nowhere://"),
    ],
)
def test_wrong_arguments(arguments, text):
    with pytest.raises(RuntimeError, match=text):
        next(rendezvous(*arguments))


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("file://", "using file:// rendezvous: path missing"),
        ("file:///x", "using file:// rendezvous: rank parameter missing"),
        ("file:///x?rank=0", "using file:// rendezvous: world size parameter missing"),
        ("tcp://localhost", "using tcp:// rendezvous: port number missing"),
        ("tcp://localhost:1?world_size=1", "using tcp:// rendezvous: rank parameter missing"),
        ("tcp://localhost:1?rank=0", "using tcp:// rendezvous: world size parameter missing"),
        ("env://?world_size=1", "environment variable RANK expected, but not set"),
        ("env://?rank=0", "environment variable WORLD_SIZE expected, but not set"),
        ("env://?rank=0&world_size=1", "environment variable MASTER_ADDR expected, but not set"),
    ],
)
def test_what_is_missing(url, text):
    with pytest.raises(ValueError, match="Error initializing torch.distributed") as caught:
        next(rendezvous(url))
    assert text in str(caught.value)


def test_empty_variables_count_as_missing(monkeypatch):
    monkeypatch.setenv("RANK", "")
    with pytest.raises(ValueError, match="environment variable RANK expected"):
        next(rendezvous("env://"))


def test_said_twice():
    with pytest.raises(AssertionError, match="has node-specific arguments"):
        next(rendezvous("file:///x?rank=0", rank=0, world_size=1))


def test_file(tmp_path):
    meetings = rendezvous(f"file://{tmp_path}/meeting?rank=0&world_size=1")
    table, rank, world_size = next(meetings)
    assert isinstance(table, store.Store)
    assert (rank, world_size) == (0, 1)
    table.set("a", "b")
    assert table.get("a") == b"b"
    with pytest.raises(RuntimeError, match="Unable to perform re-rendezvous"):
        next(meetings)


def test_tcp(port):
    table, rank, world_size = next(rendezvous(f"tcp://127.0.0.1:{port}", rank=0, world_size=1))
    assert (rank, world_size, table.port) == (0, 1, port)


def test_store_that_the_launcher_hosts(monkeypatch):
    host = store.TCPStore("127.0.0.1", 0, is_master=True)
    monkeypatch.setenv("TENDRIL_STORE_HOSTED", "1")
    table, rank, _ = next(rendezvous(f"tcp://127.0.0.1:{host.port}", rank=0, world_size=1))
    table.set("a", "b")
    assert (host.get("a"), rank) == (b"b", 0)


def test_store_of_an_elastic_agent(monkeypatch):
    host = store.TCPStore("127.0.0.1", 0, is_master=True)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "3")
    table, _, _ = next(rendezvous(f"tcp://127.0.0.1:{host.port}", rank=0, world_size=1))
    table.set("a", "b")
    assert host.get("/worker/attempt_3/a") == b"b"


def test_env(monkeypatch, port):
    for name, value in {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    table, rank, world_size = next(rendezvous("env://"))
    assert (rank, world_size, table.port) == (0, 1, port)


def test_env_of_a_dynamic_group(monkeypatch, port):
    for name, value in {"RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    rpc.init_rpc("me", rpc_backend_options=rpc.TensorPipeRpcBackendOptions(init_method="env://"))
    assert rpc.get_worker_info().id == 0
    assert not rpc._get_current_rpc_agent().is_static_group
    rpc.shutdown()


def test_own_kind():
    meeting.register_rendezvous_handler("mine", lambda url, **kwargs: iter([(url, 1, 2)]))
    try:
        assert next(rendezvous("mine://x?a=b", rank=1, world_size=2)) == ("mine://x?a=b&rank=1&world_size=2", 1, 2)
        with pytest.raises(RuntimeError, match="already registered"):
            meeting.register_rendezvous_handler("mine", None)
    finally:
        del meeting._handlers["mine"]
