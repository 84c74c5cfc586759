# SPDX-License-Identifier: Apache-2.0
"""torch's tensors and modules on their way between processes: through calls, as results and in references."""

import core_helpers as helpers
import pytest
from core_helpers import member, remote, sync
from value_helpers import Plain, same

pytest.importorskip("torch")


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
            assert same(sync("worker1", helpers.identity, obj), obj)
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
    group(2, _torch)
