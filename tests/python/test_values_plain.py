# SPDX-License-Identifier: Apache-2.0
"""Values that need no pickle, and what makes an object need one."""

import array
import collections
import enum
import gc
import sys

import pytest
from hypothesis import given, settings
from value_helpers import Plain, plain, same

from tendril import _C


def is_plain(obj):
    return _C._describe(obj) is not None


PLAIN = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**63,
    2**64,
    -(2**63) - 1,
    10**400,
    -(10**400),
    1.5,
    -0.0,
    float("inf"),
    float("nan"),
    1 - 2j,
    complex(float("nan"), -0.0),
    "",
    "text",
    "a\0b",
    "\ud800 \udfff",
    "\ud83d\ude00",
    "😀",
    b"",
    b"\0\xff",
    b"x" * 100_000,
    "y" * 100_000,
    bytearray(b""),
    bytearray(b"abc"),
    bytearray(b"z" * 100_000),
    [],
    (),
    {},
    set(),
    [1, [2, (3, {4: [5]})]],
    {"a": 1, 2: "b", (3, None): {5, "x"}},
    {1.5, "a", None, (1, "b")},
]


@pytest.mark.parametrize("obj", PLAIN, ids=lambda obj: repr(obj)[:30])
def test_plain(obj):
    assert is_plain(obj)
    assert same(_C._roundtrip(obj), obj)
    nest = [1, {"key": (obj,)}]
    assert same(_C._roundtrip(nest), nest)


@given(plain())
@settings(max_examples=300)
def test_nests(obj):
    assert same(_C._roundtrip(obj), obj)
    args, kwargs = _C._roundtrip_call((obj, 1), {"name": obj})
    assert same(args, (obj, 1))
    assert same(kwargs, {"name": obj})


class Text(str):
    pass


class Color(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


Pair = collections.namedtuple("Pair", ["first", "second"])


@pytest.mark.parametrize(
    "obj",
    [
        Text("a"),
        Color.RED,
        Number.ONE,
        Pair(1, 2),
        collections.OrderedDict(a=1),
        collections.deque([1]),
        frozenset([1]),
        {frozenset([1]): 2},
        range(3),
        slice(1, 2),
        Plain(x=1),
        [1, Plain(x=[2])],
        array.array("d", [1, 2]),
        len,
        int,
    ],
    ids=lambda obj: repr(obj)[:30],
)
def test_derived_and_other_types_are_pickled(obj):
    assert not is_plain(obj)
    assert same(_C._roundtrip(obj), obj)


def test_shared_containers_are_pickled_and_stay_shared():
    inner = [1]
    for outer in ([inner, inner], (inner, (inner,)), {"a": inner, "b": [inner]}):
        assert not is_plain(outer)
    first, second = _C._roundtrip([inner, inner])
    assert first is second
    args, kwargs = _C._roundtrip_call((inner,), {"again": inner})
    assert args[0] is kwargs["again"]
    text = "long" * 1000
    assert not is_plain([text, text])
    assert is_plain(["short", "short"])
    big = (inner, 1)
    assert not is_plain([big, big])


def test_small_tuples_and_constants_may_repeat():
    pair = (1, "x")
    assert is_plain([pair, pair, ()])
    assert is_plain([(), ()])
    assert is_plain([None, None, True, True, "a", "a"])


def test_tuples_within_tuples_do_not_multiply():
    nest = (0,)
    for _ in range(40):
        nest = (nest, nest)
    assert not is_plain(nest)
    assert _C._roundtrip(nest)[0][1][0] is not None


def test_cycles():
    ring = [1]
    ring.append(ring)
    back = _C._roundtrip(ring)
    assert back[0] == 1
    assert back[1] is back
    table = {}
    table["self"] = table
    back = _C._roundtrip(table)
    assert back["self"] is back


def test_deep_nests():
    for depth in (40, 60, 150):
        nest = []
        for _ in range(depth):
            nest = [nest]
        assert is_plain(nest) == (depth < 48)
        back = _C._roundtrip(nest)
        for _ in range(depth):
            (back,) = back
        assert back == []
    nest = []
    for _ in range(100_000):
        nest = [nest]
    with pytest.raises(RecursionError):
        _C._roundtrip(nest)
    while nest:
        nest = nest[0]


def test_nan_keys_stay_apart():
    table = {float("nan"): 1, float("nan"): 2, (float("nan"), 1): 3}
    assert len(_C._roundtrip(table)) == 3
    assert len(_C._roundtrip({float("nan"), float("nan"), complex(float("nan"), 1)})) == 3
    assert is_plain([float("nan")])


def test_order_of_dicts_stays():
    table = {key: None for key in (3, "b", 1, "a", 2)}
    assert list(_C._roundtrip(table)) == list(table)


def test_derived_types_are_plain_for_schemas():
    assert _C._describe(Text("a"), "schema") == "'a'"
    assert _C._describe(Number.ONE, "schema") == "1"
    assert _C._describe(Pair(1, [2]), "schema") == "(1, [2])"
    assert _C._describe(bytearray(b"ab"), "schema") == "b'ab'"
    assert _C._describe(Color.RED, "schema") is None


def test_objects_that_schemas_do_not_know_are_pickled_one_by_one():
    obj = Plain(x=1)
    assert _C._roundtrip(obj, "schema") == obj


def test_a_list_that_changes_under_way():
    class Spoiler:
        def __init__(self, victim):
            self.victim = victim

        def __dlpack__(self):
            self.victim.clear()
            raise RuntimeError("spoiled")

    victim = [1, 2, 3]
    victim.insert(1, Spoiler(victim))
    with pytest.raises(RuntimeError, match="spoiled"):
        _C._roundtrip(victim)
    assert victim == []


def test_nothing_is_kept():
    objects = [[1, {"a": (2, "x" * 2000)}], b"q" * 100_000, bytearray(b"r" * 100_000), Plain(x=[1]), {1, 2}, 10**30]
    for obj in objects:
        _C._roundtrip(obj)
    gc.collect()
    before = [sys.getrefcount(obj) for obj in objects]
    count = len(gc.get_objects())
    for _ in range(50):
        for obj in objects:
            _C._roundtrip(obj)
    gc.collect()
    assert [sys.getrefcount(obj) for obj in objects] == before
    assert len(gc.get_objects()) - count < 20
