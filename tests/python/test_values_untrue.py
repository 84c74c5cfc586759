# SPDX-License-Identifier: Apache-2.0
"""What no Python program sends: values whose kinds, formats and numbers do not fit. They are exceptions, at worst.

They are made by the library itself, through ctypes, and handed to it as arguments of a call.
"""

import contextlib
import ctypes
import pickle
import random
import struct

import core_helpers as helpers
import pytest
from core_helpers import sync

from tendril import _C

LIMIT_SECONDS = 60
ROUNDS = 3000
FORMATS = ("bytes", "bytearray", "numpy", "numpy.scalar", "pickle5", "pickle5.refs", "pickle5.call", "nonsense")
NDTYPES = 15

received = []


def look(*args, **kwargs):
    """Served: uses all that has come."""
    received.append(repr((args, kwargs))[:1000])


def library():
    """The library that the extension uses, or None where it is part of it."""
    with open("/proc/self/maps") as maps:
        paths = {line.split(None, 5)[5].strip() for line in maps if "libtendril.so" in line}
    if not paths:
        return None
    loaded = ctypes.CDLL(paths.pop())
    for name in ("tdr_object", "tdr_tuple", "tdr_list", "tdr_dict_new", "tdr_set_new", "tdr_int", "tdr_float",
                 "tdr_bytes", "tdr_bigint", "tdr_string_n", "tdr_tensor_value", "tdr_value_unref"):
        getattr(loaded, name).restype = ctypes.c_void_p
    return loaded


class Maker:
    """Makes values at random."""

    def __init__(self, loaded, seed):
        self.library = loaded
        self.random = random.Random(seed)

    def bytes(self, most):
        return self.random.randbytes(self.random.randrange(most))

    def tensor(self):
        dtype = self.random.choice((1, 1, self.random.randrange(NDTYPES)))
        sizes = [self.random.randrange(5) for _ in range(self.random.choice((1, 1, 0, 3)))]
        data, tensor = bytes(4096), ctypes.c_void_p()
        status = self.library.tdr_tensor_copy_of(
            data, dtype, ctypes.c_size_t(len(sizes)), (ctypes.c_int64 * 4)(*sizes), ctypes.byref(tensor))
        assert status == 0
        return tensor

    def lead(self):
        """What a pickle's data begins with, true or not."""
        counts = self.random.choice(((0, 0, 0), (1, 0, 0), (0, 1, 1), (1, 1, 1), (2**32 - 1, 2**32 - 1, 1), (3, 0, 9)))
        stream = pickle.dumps([1, "two", {3: 4.0}], protocol=5)
        cut = self.random.choice((len(stream), len(stream) // 2, 0))
        return struct.pack("<III", counts[2], counts[0], counts[1]) + self.bytes(4) + stream[:cut]

    def object(self):
        text = self.random.choice(FORMATS)
        data = self.random.choice((self.lead(), b"", b"\0", b"\1", self.bytes(20), bytes([NDTYPES]) + bytes(8)))
        tensors = [self.tensor() for _ in range(self.random.choice((0, 1, 1, 2, 3)))]
        value = self.library.tdr_object(
            text.encode(), data, ctypes.c_size_t(len(data)), ctypes.c_size_t(len(tensors)),
            (ctypes.c_void_p * 4)(*tensors))
        for tensor in tensors:
            self.library.tdr_tensor_unref(tensor)
        return value

    def container(self, depth):
        items = [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        make = self.random.choice((self.library.tdr_tuple, self.library.tdr_list))
        return make(ctypes.c_size_t(len(items)), (ctypes.c_void_p * 4)(*items))

    def mapping(self, depth, loaded):
        if self.random.random() < 0.3:
            value = loaded.tdr_set_new()
            loaded.tdr_set_add(ctypes.c_void_p(value), ctypes.c_void_p(self.value(depth + 1)))
            return value
        value = loaded.tdr_dict_new()
        for _ in range(self.random.randrange(3)):
            loaded.tdr_dict_put(
                ctypes.c_void_p(value), ctypes.c_void_p(self.value(depth + 1)), ctypes.c_void_p(self.value(depth + 1)))
        return value

    def value(self, depth=0):
        kind = self.random.randrange(9 if depth < 4 else 6)
        if kind == 0:
            return self.object()
        if kind == 1:
            tensor = self.tensor()
            value = self.library.tdr_tensor_value(tensor)
            self.library.tdr_tensor_unref(tensor)
            return value
        if kind == 2:
            return self.library.tdr_int(ctypes.c_int64(self.random.randrange(-(2**63), 2**63)))
        if kind == 3:
            return self.library.tdr_float(ctypes.c_double(float("nan")))
        if kind == 4:
            data = self.bytes(40) + b"\1"
            return self.library.tdr_bigint(data, ctypes.c_size_t(len(data)))
        if kind == 5:
            text = "\udcffx\0y".encode(errors="surrogatepass")
            return self.library.tdr_string_n(text, ctypes.c_size_t(len(text)))
        if kind == 6:
            return self.object()
        return self.container(depth) if kind == 7 else self.mapping(depth, self.library)


def call(loaded, agent, args, kwargs=None):
    """A call with values as arguments; its status."""
    # An Agent begins as any object does, and then has the library's agent.
    native = ctypes.c_void_p.from_address(id(agent) + object.__basicsize__)
    result = ctypes.c_void_p()
    status = loaded.tdr_rpc_sync(
        native, b"worker0", f"python::{__name__}:look".encode(), ctypes.c_void_p(args), ctypes.c_void_p(kwargs),
        ctypes.byref(result))
    loaded.tdr_value_unref(result)
    return status


@pytest.fixture
def agent(tmp_path):
    agent = helpers.join(0, 1, f"file://{tmp_path}/meeting")
    yield agent
    agent.shutdown(timeout=LIMIT_SECONDS)
    _C.reset_current_agent()


@pytest.mark.parametrize("seed", range(2))
def test_arguments(agent, seed, capsys):
    loaded = library()
    if loaded is None:
        pytest.skip("the library is part of the extension")
    with contextlib.suppress(ImportError):
        import numpy  # noqa: F401, arrays are then made of what comes
    received.clear()
    maker = Maker(loaded, seed)
    good = 0
    for i in range(ROUNDS):
        args = maker.container(0)
        if i % 3:
            args = loaded.tdr_tuple(ctypes.c_size_t(1), (ctypes.c_void_p * 1)(args))
        kwargs = maker.mapping(0, loaded) if i % 5 == 0 else None
        good += call(loaded, agent, args, kwargs) == 0
    assert 0 < good < ROUNDS
    assert len(received) == good
    capsys.readouterr()
    assert sync(0, helpers.add, 1, 2) == 3
