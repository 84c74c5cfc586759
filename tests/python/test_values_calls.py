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


def tensor_facts(tensors):
    """What the callee sees."""
    return [(str(each.dtype), tuple(each.stride()), each.storage_offset(), each.requires_grad) for each in tensors]


def increment(tensor):
    tensor += 1
    return tensor


def _torch(rank, size, url):
    import torch

    with member(rank, size, url):
        if rank != 0:
            return
        base = torch.arange(24.0)
        tensors = [base, base[3:], base.view(4, 6).t(), base[:1].expand(5), base.to(torch.bfloat16), torch.tensor(True)]
        tensors += [base.to(torch.complex64), torch.zeros(0, 2), torch.ones(2, requires_grad=True)]
        assert sync("worker1", tensor_facts, tensors) == tensor_facts(tensors)
        back = sync("worker1", helpers.identity, tensors)
        assert same(back, tensors)
        back[0][3] = 77
        assert back[1][0] == 77
        assert sync("worker1", increment, torch.zeros(1000)).sum() == 1000
        big = torch.arange(1_000_000.0)
        assert torch.equal(sync("worker1", helpers.identity, big), big)
        assert torch.equal(sync("worker1", helpers.identity, big[5:9]), big[5:9])
        first, second = sync("worker1", helpers.identity, (base, base))
        assert first is second
        for obj in (
            torch.nn.Parameter(torch.ones(2)),
            torch.sparse_coo_tensor([[0, 1]], [1.0, 2.0], (3,)).coalesce(),
            {"a": [torch.ones(2, 2), {"b": torch.zeros(1, dtype=torch.int64)}]},
        ):
            check("worker1", obj)
        half = torch.view_as_complex(torch.arange(8.0).to(torch.float16).view(4, 2))[::2]
        for back in (sync("worker1", helpers.identity, half), sync("worker1", helpers.identity, Plain(x=half)).x):
            assert back.dtype is torch.complex32 and back.stride() == half.stride()
            assert torch.equal(torch.view_as_real(back), torch.view_as_real(half))
        module = torch.nn.Linear(2, 2)
        assert torch.equal(sync("worker1", module, torch.ones(1, 2)), module(torch.ones(1, 2)))
        scripted = torch.jit.script(module)
        assert torch.equal(sync("worker1", make_scripted, module)(torch.ones(1, 2)), scripted(torch.ones(1, 2)))
        result = remote("worker1", torch.ones, 3)
        assert torch.equal(result.to_here(), torch.ones(3))
        assert torch.equal(sync("worker1", "aten::add", base, base, alpha=2), base * 3)


def make_scripted(module):
    import torch

    return torch.jit.script(module)


def test_torch(group):
    pytest.importorskip("torch")
    group(2, _torch)


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
