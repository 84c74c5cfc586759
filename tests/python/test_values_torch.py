# SPDX-License-Identifier: Apache-2.0
"""torch's tensors as values: no copy, no pickle of their bytes, and what they share stays shared."""

import gc
import math
import sys
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from value_helpers import Plain, plain, same, same_tensor

from tendril import _C, _pickle

torch = pytest.importorskip("torch")

DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
]


def storage_of(tensor):
    return tensor._storage() if hasattr(tensor, "_storage") else tensor.untyped_storage()


def share(a, b):
    return storage_of(a).data_ptr() == storage_of(b).data_ptr() and storage_of(a)._cdata == storage_of(b)._cdata


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (0,), (2, 0, 3), (1, 1, 1)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(dtype, shape):
    tensor = torch.arange(math.prod(shape)).to(dtype).reshape(shape)
    assert _C._describe(tensor) is not None
    assert same_tensor(_C._roundtrip(tensor), tensor)
    assert same(_C._roundtrip(Plain(tensor=tensor)), Plain(tensor=tensor))
    back = _C._roundtrip([tensor, tensor.clone()])
    assert same_tensor(back[0], tensor)
    assert same_tensor(back[1], tensor)


def strided():
    """Views of all shapes and strides of a small storage."""

    @st.composite
    def draw(draw):
        base = torch.arange(64, dtype=draw(st.sampled_from(DTYPES[1:10])))
        ndim = draw(st.integers(0, 4))
        sizes = draw(st.lists(st.integers(0, 3), min_size=ndim, max_size=ndim))
        strides = draw(st.lists(st.integers(0, 5), min_size=ndim, max_size=ndim))
        offset = draw(st.integers(0, 8))
        return base.as_strided(sizes, strides, offset)

    return draw()


@given(strided())
@settings(max_examples=200)
def test_strides(tensor):
    back = _C._roundtrip(tensor)
    assert same_tensor(back, tensor)
    assert tensor.numel() == 0 or back.storage_offset() == tensor.storage_offset()


@given(plain(st.integers() | strided()))
@settings(max_examples=100)
def test_nests(obj):
    assert same(_C._roundtrip(obj), obj)
    assert same(_C._roundtrip(Plain(obj=obj)), Plain(obj=obj))


def test_memory_is_shared_both_ways():
    tensor = torch.zeros(100)
    back = _C._roundtrip(tensor)
    assert back.data_ptr() == tensor.data_ptr()
    back = _C._roundtrip(Plain(tensor=tensor)).tensor
    assert back.data_ptr() == tensor.data_ptr()


def test_views_of_one_storage_stay_that():
    base = torch.arange(10.0)
    views = [base, base[2:], base[::2], base.view(torch.int32), base.reshape(2, 5).t()]
    arrived = [_C._roundtrip(views), _C._roundtrip(Plain(views=views)).views, _C._roundtrip_call(tuple(views), {})[0]]
    for back in arrived:
        assert all(same_tensor(a, b) for a, b in zip(back, views))
        assert all(share(back[0], view) for view in back)
        back[0][2] = 77
        assert back[1][0] == 77
        back[0][2] = 2
    args, kwargs = _C._roundtrip_call((base,), {"part": base[1:]})
    assert share(args[0], kwargs["part"])
    apart = _C._roundtrip([torch.ones(3), torch.ones(3)])
    assert not share(*apart)


def test_bool_views_share_with_others():
    base = torch.zeros(8, dtype=torch.uint8)
    flags = torch.empty(0, dtype=torch.bool).set_(storage_of(base), 0, (8,), (1,))
    back = _C._roundtrip([flags, base])
    assert back[0].dtype is torch.bool
    assert share(*back)


def test_one_object_stays_one():
    tensor = torch.ones(2)
    first, second = _C._roundtrip([tensor, tensor])
    assert first is second
    assert _C._describe([tensor, tensor]) is None
    assert _C._describe([tensor, tensor], "schema") is not None
    args, kwargs = _C._roundtrip_call((tensor, tensor), {"x": tensor})
    assert args[0] is args[1] is kwargs["x"]


def test_requires_grad():
    leaf = torch.ones(3, requires_grad=True)
    back = _C._roundtrip(leaf)
    assert back.requires_grad
    assert back.is_leaf
    back = _C._roundtrip(leaf * 2)
    assert back.requires_grad
    assert back.grad_fn is None
    parameter = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    back = _C._roundtrip(parameter)
    assert type(back) is torch.nn.Parameter
    assert not back.requires_grad
    assert type(_C._roundtrip(parameter, "schema")) is torch.Tensor
    (back * 2).sum()


def test_conjugates_and_negatives():
    tensor = torch.tensor([1 + 2j, 3 - 1j])
    assert torch.equal(_C._roundtrip(tensor.conj()), tensor.conj())
    assert torch.equal(_C._roundtrip(tensor.conj().imag), tensor.conj().imag)


@pytest.mark.filterwarnings("ignore")
def test_sparse():
    coo = torch.sparse_coo_tensor([[0, 1, 1], [2, 0, 0]], [3.0, 4.0, 5.0], (2, 3))
    for tensor in (coo, coo.coalesce(), coo.clone().requires_grad_()):
        back = _C._roundtrip(tensor)
        assert same_tensor(back, tensor)
        assert back.is_coalesced() == tensor.is_coalesced()
        assert same(_C._roundtrip([tensor, 1]), [tensor, 1])
    csr = coo.to_dense().to_sparse_csr()
    assert same_tensor(_C._roundtrip(csr), csr)
    hybrid = torch.sparse_coo_tensor([[0, 2]], torch.ones(2, 4), (3, 4))
    assert same_tensor(_C._roundtrip(hybrid), hybrid)


@pytest.mark.parametrize("dtype", [torch.qint8, torch.quint8, torch.qint32], ids=str)
def test_quantized(dtype):
    tensor = torch.quantize_per_tensor(torch.randn(3, 4), 0.1, 10, dtype)
    back = _C._roundtrip(tensor.t())
    assert torch.equal(back, tensor.t())
    assert back.stride() == tensor.t().stride()
    assert (back.q_scale(), back.q_zero_point()) == (0.1, 10)
    scales, zero_points = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0, 1, 2])
    channels = torch.quantize_per_channel(torch.randn(3, 4), scales, zero_points, 0, dtype)
    back = _C._roundtrip(channels)
    assert torch.equal(back, channels)
    assert torch.equal(back.q_per_channel_scales(), channels.q_per_channel_scales())
    assert back.q_per_channel_axis() == 0


def test_bytes_are_never_in_the_pickle():
    marker = torch.frombuffer(bytearray(b"MARKER" * 4000), dtype=torch.uint8)
    subclass = marker.as_subclass(Derived)
    subclass.mark = "x"
    numbers = torch._empty_affine_quantized((0,), scale=1.0, zero_point=0, dtype=torch.quint8)
    numbers.set_(storage_of(marker), 0, (24000,), (1,))
    objects = [marker, torch.nn.Parameter(marker, requires_grad=False), subclass, numbers]
    objects += [marker.storage(), storage_of(marker)]
    objects.append(torch.sparse_coo_tensor([[0]], marker[None], (1, 24000)))
    for obj in objects:
        stream, tensors, *_ = _pickle._dumps(Plain(obj=obj))
        assert b"MARKER" not in stream
        assert len(tensors) >= 1


class Derived(torch.Tensor):
    pass


def test_modules_and_storages():
    module = torch.nn.Linear(3, 2)
    back = _C._roundtrip(module)
    assert torch.equal(back.weight, module.weight)
    storage = torch.arange(4.0).storage()
    assert list(_C._roundtrip(storage)) == [0.0, 1.0, 2.0, 3.0]
    assert _C._roundtrip(torch.Size([1, 2])) == torch.Size([1, 2])
    assert _C._roundtrip(torch.float16) is torch.float16
    assert _C._roundtrip(torch.device("cpu"), "schema") == torch.device("cpu")


def test_script_modules():
    module = torch.jit.script(torch.nn.Linear(3, 2))
    back = _C._roundtrip(module)
    assert isinstance(back, torch.jit.ScriptModule)
    assert torch.equal(back(torch.ones(1, 3)), module(torch.ones(1, 3)))
    with pytest.raises(Exception, match="(?i)pickle"):
        _C._roundtrip(module.forward)


def test_too_many_dimensions():
    with pytest.raises(ValueError, match="33 dimensions"):
        _C._roundtrip(torch.ones([1] * 33))


def test_memory_is_freed():
    tensor = torch.zeros(1000)
    storage = weakref.ref(tensor)
    back = _C._roundtrip(tensor)
    count = sys.getrefcount(tensor)
    del tensor
    assert storage() is None
    assert back.sum() == 0
    for _ in range(20):
        back = _C._roundtrip(back)
    assert back.sum() == 0
    fresh = torch.zeros(5)
    for _ in range(10):
        _C._roundtrip([fresh, fresh[1:]])
        _C._roundtrip(Plain(x=fresh))
    gc.collect()
    assert sys.getrefcount(fresh) <= count
