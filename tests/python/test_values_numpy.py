# SPDX-License-Identifier: Apache-2.0
"""numpy's arrays and scalars, and other buffers, as values."""

import array
import gc
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from value_helpers import Plain, plain, same, same_array

from tendril import _C, _pickle

np = pytest.importorskip("numpy")
arrays = pytest.importorskip("hypothesis.extra.numpy")

TYPED = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16"]
PICKLED = ["M8[s]", "m8[ms]", "S3", "U3", ">f8", "O", "f16", "i4,f8"]


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (0,), (3, 0)])
@pytest.mark.parametrize("dtype", TYPED + PICKLED)
def test_dtypes(dtype, shape):
    obj = np.ones(shape, dtype="f8").astype(dtype) if dtype != "i4,f8" else np.ones(shape, dtype)
    assert (_C._describe(obj) is not None) == (dtype in TYPED)
    for back in (_C._roundtrip(obj), _C._roundtrip(Plain(x=obj)).x, _C._roundtrip([obj, 1])[0]):
        assert type(back) is np.ndarray
        assert same_array(back, obj) if dtype != "O" else (back == obj).all()


@pytest.mark.parametrize("dtype", [*TYPED, "M8[s]", "U3", "f16"])
def test_scalars(dtype):
    obj = np.dtype(dtype).type(1) if dtype != "M8[s]" else np.datetime64("2020-01-01", "s")
    assert (_C._describe(obj) is not None) == (dtype in TYPED)
    back = _C._roundtrip(obj)
    assert type(back) is type(obj)
    assert back == obj
    assert same(_C._roundtrip({"x": [obj]}), {"x": [obj]})


@given(arrays.arrays(st.sampled_from(TYPED), arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
@settings(max_examples=150)
def test_contents(obj):
    assert same_array(_C._roundtrip(obj), obj)
    assert same_array(_C._roundtrip(obj.T), obj.T)
    assert same_array(_C._roundtrip(obj[::-1] if obj.ndim else obj), obj[::-1] if obj.ndim else obj)


@given(plain(arrays.arrays(st.sampled_from(TYPED), (2,)) | st.floats(width=32).map(np.float32)))
@settings(max_examples=80)
def test_nests(obj):
    assert same(_C._roundtrip(obj), obj)
    assert same(_C._roundtrip(Plain(x=obj)), Plain(x=obj))


def test_layout_and_flags():
    base = np.arange(24.0).reshape(4, 6)
    for obj in (base, base.T, base[1:, ::2], np.asfortranarray(base), np.broadcast_to(base[0], (3, 6))):
        back = _C._roundtrip(obj)
        assert same_array(back, obj)
        assert back.strides == obj.strides
        assert back.flags.writeable == obj.flags.writeable
        assert back.ctypes.data == obj.ctypes.data
        back = _C._roundtrip(Plain(x=obj)).x
        assert back.flags.writeable == obj.flags.writeable
    odd = np.zeros(3, dtype=[("a", "i1"), ("b", "f8")])["b"]
    odd[:] = [1, 2, 3]
    assert same_array(_C._roundtrip(odd), odd)
    wide = np.zeros(4, dtype=[("a", "f8"), ("b", "f8")])["b"]
    assert _C._roundtrip(wide).strides == wide.strides


def test_views_of_one_array_stay_that():
    base = np.arange(10.0)
    views = [base, base[3:], base.reshape(2, 5).T, base.view("i8")]
    for back in (_C._roundtrip(views), _C._roundtrip(Plain(x=views)).x):
        back[0][3] = 77
        assert back[1][0] == 77
        assert all(np.shares_memory(back[0], other) for other in back)
        back[0][3] = 3
    first, second = _C._roundtrip([base, base])
    assert first is second
    data = bytearray(80)
    first, second = _C._roundtrip([np.frombuffer(data), np.frombuffer(data)[1:]])
    assert same_array(first, np.zeros(10))
    assert same_array(second, np.zeros(9))


def test_schemas_get_tensors_and_numbers():
    assert "Tensor" in _C._describe(np.zeros(3), "schema") or "tensor" in _C._describe(np.zeros(3), "schema")
    assert _C._describe(np.float64(0.5), "schema") == "0.5"
    assert _C._describe(np.int8(-3), "schema") == "-3"
    assert _C._describe(np.bool_(True), "schema") == "True"
    back = _C._roundtrip(np.arange(3), "schema")
    assert (back.tolist() if hasattr(back, "tolist") else back) == [0, 1, 2]


def test_subclasses_are_pickled():
    masked = np.ma.masked_array([1, 2], [True, False])
    assert _C._describe(masked) is None
    back = _C._roundtrip(masked)
    assert type(back) is type(masked)
    assert back.mask.tolist() == [True, False]


def test_bytes_are_never_in_the_pickle():
    marker = np.frombuffer(b"MARKER" * 4000, dtype="u1")
    text = array.array("b", b"MARKER" * 4000)
    for obj in (marker, marker[::2], memoryview(marker), text):
        stream, tensors, kinds, buffers, _ = _pickle._dumps(Plain(x=obj))
        assert b"MARKERMARKER" not in stream
        assert len(tensors) + len(buffers) == 1
        assert len(kinds) == len(tensors)


def test_other_buffers():
    for obj in (array.array("d", [1, 2, 3]), array.array("b", b"x" * 5000), array.array("u", "text")):
        assert same(_C._roundtrip(obj), obj)
        obj.append(obj[0])
    for source in (b"", b"abc", bytearray(b"q" * 5000), np.arange(6).reshape(2, 3), np.arange(10.0)[::2]):
        view = memoryview(source)
        back = _C._roundtrip(view)
        assert type(back) is memoryview
        assert (back.tolist(), back.format, back.shape) == (view.tolist(), view.format, view.shape)


class Speaker:
    """Something that speaks DLPack, and that pickle refuses."""

    def __init__(self, source):
        self.source = source

    def __dlpack__(self, stream=None):
        return self.source.__dlpack__()

    def __dlpack_device__(self):
        return self.source.__dlpack_device__()

    def __reduce__(self):
        raise TypeError("cannot be pickled")


def test_dlpack():
    speaker = Speaker(np.arange(4.0))
    assert _C._roundtrip(speaker).tolist() == [0.0, 1.0, 2.0, 3.0]
    assert _C._roundtrip(Plain(x=speaker)).x.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert _C._roundtrip(speaker, "schema").tolist() == [0.0, 1.0, 2.0, 3.0]


def test_nothing_is_kept():
    obj = np.arange(1000.0)
    for _ in range(3):
        _C._roundtrip([obj, obj[1:], np.float32(1)])
        _C._roundtrip(Plain(x=obj))
    gc.collect()
    before = sys.getrefcount(obj)
    for _ in range(50):
        _C._roundtrip([obj, obj[1:], np.float32(1)])
        _C._roundtrip(Plain(x=obj))
        _C._roundtrip(obj[::-1])
    gc.collect()
    assert sys.getrefcount(obj) == before
