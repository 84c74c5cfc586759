# SPDX-License-Identifier: Apache-2.0
"""The picklers: what goes beside the stream, what is missing, code, nested use."""

import copyreg
import threading

import pytest
from value_helpers import Plain

from tendril import _C, _pickle

pickler = _pickle._internal_rpc_pickler


def test_serialize():
    stream, tensors = pickler.serialize({"a": [1, 2]})
    assert isinstance(stream, bytes)
    assert tensors == []
    assert pickler.deserialize(stream, tensors) == {"a": [1, 2]}


def test_serialize_tensors():
    torch = pytest.importorskip("torch")
    tensor = torch.ones(2)
    stream, tensors = pickler.serialize([tensor, tensor, Plain(x=tensor[1:])])
    assert len(tensors) == 2
    assert tensors[0] is tensor
    first, second, third = pickler.deserialize(stream, tensors)
    assert first is second is tensor
    assert third.x is tensors[1]


class Nesting:
    """An object whose state is pickled by the same pickler."""

    def __init__(self, state):
        self.state = state

    def __getstate__(self):
        return pickler.serialize(self.state)

    def __setstate__(self, state):
        self.state = pickler.deserialize(*state)


def test_nested_use():
    torch = pytest.importorskip("torch")
    obj = [torch.zeros(1), Nesting([torch.ones(2), Nesting(torch.ones(3))]), torch.full((1,), 4.0)]
    for back in (pickler.deserialize(*pickler.serialize(obj)), _C._roundtrip(obj)):
        assert back[0].tolist() == [0.0]
        assert back[1].state[0].tolist() == [1.0, 1.0]
        assert back[1].state[1].state.tolist() == [1.0] * 3
        assert back[2].tolist() == [4.0]


class Failing:
    """An object that can be pickled, but not read."""

    def __init__(self):
        self.x = 1

    def __setstate__(self, state):
        raise ValueError("no state")


class Trying:
    """An object that reads another pickle while it is read itself, and goes on when that fails."""

    def __init__(self, pickled):
        self.pickled = pickled

    def __setstate__(self, state):
        with pytest.raises(ValueError, match="no state"):
            pickler.deserialize(*state["pickled"])


def test_tables_are_restored_after_a_failure():
    torch = pytest.importorskip("torch")
    broken, _ = pickler.serialize([torch.ones(1), Failing()])
    obj = [Trying((broken, [torch.ones(1)])), torch.full((1,), 9.0)]
    assert pickler.deserialize(*pickler.serialize(obj))[1].tolist() == [9.0]
    assert _C._roundtrip(obj)[1].tolist() == [9.0]


def test_missing_code_is_returned():
    stream, tensors = pickler.serialize(Plain(x=1))
    missing = stream.replace(b"Plain", b"Plaim")
    error = pickler.deserialize(missing, tensors)
    assert isinstance(error, AttributeError)
    assert "Plaim" in str(error)
    assert "Default RPC pickler does not serialize function code." in str(error)
    assert "Ensure that UDFs are defined on both caller and callee modules." in str(error)
    with pytest.raises(AttributeError, match="RPC pickler does not serialize"):
        _pickle._loads(missing, [], [], [])


class Registered:
    pass


def _make_registered(number):
    made = Registered()
    made.number = number
    return made


def test_registered_reducers():
    pickler._register_reducer(Registered, lambda obj: (_make_registered, (1,)))
    pickler._register_reducer(Registered, lambda obj: (_make_registered, (2,)))
    assert pickler.deserialize(*pickler.serialize(Registered())).number == 1
    assert _C._roundtrip([Registered()])[0].number == 1


class Copied:
    pass


def test_copyreg():
    copyreg.pickle(Copied, lambda obj: (str, ("copied",)))
    assert _C._roundtrip(Copied()) == "copied"


def test_code():
    pytest.importorskip("cloudpickle")
    number = 5

    def closure(x):
        return x + number

    assert _C._roundtrip(lambda x: x * 2)(4) == 8
    assert _C._roundtrip(closure)(1) == 6

    class Local:
        value = 3

    assert _C._roundtrip(Local).value == 3
    assert _C._roundtrip([Local(), closure])[0].value == 3
    args, kwargs = _C._roundtrip_call((closure,), {"f": closure})
    assert args[0] is kwargs["f"]


def test_code_with_tensors():
    pytest.importorskip("cloudpickle")
    torch = pytest.importorskip("torch")
    tensor = torch.ones(10_000)
    stream, tensors, *_ = _pickle._dumps(lambda: tensor)
    assert len(tensors) == 1
    assert len(stream) < 5000
    assert _C._roundtrip(lambda: tensor)().data_ptr() == tensor.data_ptr()


def test_the_first_error_is_raised():
    class Stuck:
        def __reduce__(self):
            raise TypeError("stuck fast")

    with pytest.raises(TypeError, match="stuck fast"):
        _C._roundtrip(Stuck())
    with pytest.raises(TypeError, match="cannot pickle '_thread.lock'"):
        _C._roundtrip([threading.Lock()])

    class Angry:
        def __reduce__(self):
            raise RuntimeError("angry")

    with pytest.raises(RuntimeError, match="angry"):
        _C._roundtrip(Angry())


def test_long_pickles():
    obj = Plain(x="text" * 100_000, y=list(range(1000)))
    assert _C._roundtrip(obj) == obj


def test_threads():
    errors = []

    def work(number):
        try:
            for _ in range(100):
                assert _C._roundtrip(Plain(x=[number])).x == [number]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
