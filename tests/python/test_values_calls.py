# SPDX-License-Identifier: Apache-2.0
"""Values on their way between processes: through calls, as results and in references."""

import math

import core_helpers as helpers
import pytest
from core_helpers import call_async, member, remote, sync
from hypothesis import given, settings
from hypothesis import strategies as st
from value_helpers import Plain, plain, same

from tendril import _C

EXAMPLES = 100


def check(peer, obj):
    """Sends the object there and back, both by value and as what a reference refers to."""
    assert same(sync(peer, helpers.identity, obj), obj)


def _nests(rank, size, url):
    with member(rank, size, url):
        if rank != 0:
            return

        @given(plain())
        @settings(max_examples=EXAMPLES)
        def send(obj):
            check("worker1", obj)
            check("worker1", Plain(x=obj))

        send()
        for obj in (
            [10**400, -(10**400), "\ud800", float("nan"), complex(0, math.inf)],
            b"x" * 3_000_000,
            bytearray(b"y" * 3_000_000),
            ["z" * 3_000_000],
            Plain(x="w" * 3_000_000),
            Plain(x=[Plain(y=1)]),
        ):
            check("worker1", obj)
        shared = [1]
        first, second = sync("worker1", helpers.identity, [shared, shared])
        assert first is second
        ring = []
        ring.append(ring)
        back = sync("worker1", helpers.identity, ring)
        assert back[0] is back
        nest = []
        for _ in range(150):
            nest = [nest]
        assert sync("worker1", helpers.identity, nest) == nest


def test_nests(group):
    group(2, _nests)


def _numpy(rank, size, url):
    import numpy as np
    from hypothesis.extra import numpy as arrays

    with member(rank, size, url):
        if rank != 0:
            return
        dtypes = st.sampled_from(["?", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "c8", "c16"])
        shapes = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)

        @given(plain(arrays.arrays(dtypes, shapes) | st.floats().map(np.float64) | st.integers(0, 99).map(np.int16)))
        @settings(max_examples=EXAMPLES)
        def send(obj):
            check("worker1", obj)
            check("worker1", Plain(x=obj))

        send()
        base = np.arange(20.0).reshape(4, 5)
        back = sync("worker1", helpers.identity, [base, base[1:], base.T])
        assert [each.strides for each in back] == [base.strides, base.strides, base.T.strides]
        assert np.shares_memory(back[0], back[1])
        base.flags.writeable = False
        assert not sync("worker1", helpers.identity, base).flags.writeable
        assert sync("worker1", helpers.identity, Plain(x=base)).x.tolist() == base.tolist()
        assert sync("worker1", helpers.identity, np.zeros(2, "M8[s]")).dtype == np.dtype("M8[s]")
        assert sync("worker1", helpers.identity, base[::-1, ::-1]).tolist() == base[::-1, ::-1].tolist()


def test_numpy(group):
    pytest.importorskip("numpy")
    group(2, _numpy)


def local_values(refs):
    """Runs on the owner of some."""
    return [ref.local_value() if ref.is_owner() else ref.to_here() for ref in refs]


def _references(rank, size, url):
    with member(rank, size, url):
        if rank != 0:
            return
        mine, theirs = _C.PyRRef([1, 2]), remote("worker1", helpers.Counter.make, 5)
        values = sync("worker1", local_values, [mine, theirs])
        assert values[0] == [1, 2]
        assert values[1].count == 5
        # The same, where the arguments have to be pickled.
        plainly = Plain(ref=mine, other=[theirs, theirs])
        back = sync("worker1", helpers.identity, plainly)
        assert back.ref.local_value() == [1, 2]
        assert back.other[0] is back.other[1]
        assert back.other[0].to_here().count == 5
        assert call_async("worker1", local_values, [theirs, mine]).wait()[1] == [1, 2]


def test_references(group):
    group(2, _references)


def make_lock():
    import threading

    return threading.Lock()


def make_local():
    class Local:
        pass

    return Local


def _failures(rank, size, url):
    with member(rank, size, url):
        if rank != 0:
            return
        with pytest.raises(RuntimeError, match="cannot pickle '_thread.lock'"):
            sync("worker1", make_lock)
        with pytest.raises(TypeError, match="cannot pickle '_thread.lock'"):
            sync("worker1", helpers.identity, make_lock())
        with pytest.raises(RuntimeError, match="cannot pickle '_thread.lock'"):
            remote("worker1", make_lock).to_here()
        assert sync("worker1", helpers.add, 1, 2) == 3


def test_failures(group):
    group(2, _failures)
