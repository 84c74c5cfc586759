# SPDX-License-Identifier: Apache-2.0
"""Stores that processes share, also with PyTorch's."""

import datetime
import gc
import socket

import pytest

from store_helpers import leave_in_order
from tendril import store

LONG = datetime.timedelta(seconds=120)


@pytest.fixture
def port():
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _file_of(url):
    return url[len("file://") :]


def use(table, rank, world_size):
    """What each process does with the store that they share."""
    table.set_timeout(LONG)
    table.set(f"from{rank}", bytes([rank, 0, 255]))
    table.wait([f"from{other}" for other in range(world_size)], LONG)
    values = [table.get(f"from{other}") for other in range(world_size)]
    assert values == [bytes([other, 0, 255]) for other in range(world_size)]
    for _ in range(10):
        table.add("sum", 1)
    # Exactly one of them takes it.
    winner = table.compare_set("chosen", "", str(rank))
    _meet(table, "here", world_size)
    assert table.get("sum") == str(10 * world_size).encode()
    assert table.get("chosen") == winner
    _meet(table, "read", world_size)
    if rank == 0:
        assert table.delete_key("sum")
        table.set("deleted", "")
    table.wait(["deleted"])
    with pytest.raises(RuntimeError, match="(?i)timeout"):
        table.wait(["sum"], datetime.timedelta(milliseconds=20))
    _meet(table, "gone", world_size)
    return winner


def _meet(table, name, world_size):
    """Returns when all have come here."""
    if table.add(name, 1) == world_size:
        table.set(f"all {name}", "")
    table.wait([f"all {name}"])


def use_file(rank, world_size, url, kinds):
    table = _kind(kinds[rank]).FileStore(_file_of(url), world_size)
    return use(table, rank, world_size)


def use_tcp(rank, world_size, url, kinds, port, waits):
    table = _kind(kinds[rank]).TCPStore(
        "127.0.0.1", port, world_size if waits else None, rank == 0, LONG, wait_for_workers=waits
    )
    winner = use(table, rank, world_size)
    if rank != 0:
        del table
        gc.collect()
    leave_in_order(url, rank, world_size)
    return winner


def _kind(name):
    if name == "torch":
        import torch.distributed

        return torch.distributed
    return store


KINDS = [["tendril", "tendril"], ["tendril", "torch"], ["torch", "tendril"]]


def _needs(kinds):
    if "torch" in kinds:
        pytest.importorskip("torch")


@pytest.mark.parametrize("kinds", KINDS)
def test_file(group, kinds):
    _needs(kinds)
    winners = group(2, use_file, kinds, limit=180.0)
    assert winners[0] == winners[1]


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("waits", [False, True])
def test_tcp(group, kinds, port, waits):
    _needs(kinds)
    winners = group(2, use_tcp, kinds, port, waits, limit=180.0)
    assert winners[0] == winners[1]


def test_three_over_tcp(group, port):
    assert len(set(group(3, use_tcp, ["tendril"] * 3, port, True))) == 1
