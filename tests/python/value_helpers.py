# SPDX-License-Identifier: Apache-2.0
"""What the tests of values share: equality that looks at types, and nests of what can be sent."""

import math
import sys

from hypothesis import settings
from hypothesis import strategies as st

# No test may fail for taking long, or leave files behind.
settings.register_profile("tendril", deadline=None, database=None)
settings.load_profile("tendril")


def same(a, b):
    """Whether `b` is what is to arrive of `a`: of the same type, with the same content; NaN is the same as NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return same_float(a, b)
    if isinstance(a, complex):
        return same_float(a.real, b.real) and same_float(a.imag, b.imag)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(*pair) for pair in zip(a.items(), b.items()))
    if isinstance(a, (set, frozenset)):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(a, torch.Tensor):
        return same_tensor(a, b)
    if numpy is not None and isinstance(a, (numpy.ndarray, numpy.generic)):
        return same_array(a, b)
    return bool(a == b)


def same_float(a, b):
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b and math.copysign(1, a) == math.copysign(1, b)


def same_tensor(a, b):
    import torch

    if (a.dtype, a.layout, a.size(), a.requires_grad) != (b.dtype, b.layout, b.size(), b.requires_grad):
        return False
    if a.layout is not torch.strided:
        return torch.equal(a.detach().to_dense(), b.detach().to_dense())
    return a.stride() == b.stride() and bool(((a == b) | ((a != a) & (b != b))).all())


def same_array(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def text():
    """Strings, lone surrogates among them."""
    return st.text(st.characters() | st.sampled_from("\ud800\udfff\x00"), max_size=12)


def scalars():
    return (
        st.none()
        | st.booleans()
        | st.integers()
        | st.integers(min_value=-(2**70), max_value=2**70)
        | st.floats()
        | st.complex_numbers()
        | text()
        | st.binary(max_size=20)
    )


def keys():
    numbers = st.integers() | st.floats() | text() | st.binary(max_size=8) | st.none() | st.booleans()
    return numbers | st.tuples(numbers, numbers)


def plain(leaves=None):
    """Nests of what a value can be."""
    return st.recursive(
        leaves if leaves is not None else scalars(),
        lambda inner: (
            st.lists(inner, max_size=5)
            | st.lists(inner, max_size=5).map(tuple)
            | st.dictionaries(keys(), inner, max_size=5)
            | st.sets(keys(), max_size=5)
        ),
        max_leaves=20,
    )


class Plain:
    """An object that only pickle can send."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def __eq__(self, other):
        return type(other) is Plain and same(self.__dict__, other.__dict__)

    __hash__ = None
