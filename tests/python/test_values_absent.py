# SPDX-License-Identifier: Apache-2.0
"""Values in programs that have not imported torch, numpy or cloudpickle: Tendril does not import them either."""

import os
import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
import importlib.abc, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"no module {name}", name=name)
sys.meta_path.insert(0, Refuse())
import array
from tendril import _C
"""


def run(code, refused=("torch", "numpy", "cloudpickle")):
    """Runs the code in a process of its own, where some modules cannot be imported."""
    program = f"REFUSED = {refused!r}\n" + PRELUDE + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=os.environ)
    assert done.returncode == 0, done.stderr


def test_own_tensors():
    run(
        """
        class Plain: pass
        assert not {"torch", "numpy"} & set(sys.modules)
        source = array.array("f", [1, 2, 3])
        tensor = _C.Tensor(source)
        assert (tensor.shape, tensor.strides, tensor.dtype) == ((3,), (1,), "float32")
        assert (tensor.nbytes, len(tensor)) == (12, 3)
        assert tensor.tolist() == [1.0, 2.0, 3.0] and memoryview(tensor).tolist() == tensor.tolist()
        assert tensor.__dlpack_device__() == (1, 0) and not tensor.requires_grad
        back = _C._roundtrip(tensor)
        assert type(back) is _C.Tensor and back.tolist() == [1.0, 2.0, 3.0]
        memoryview(back)[0] = 7.0
        assert source[0] == 7.0
        again = _C.Tensor(tensor)
        assert again.tolist()[0] == 7.0
        first, second = _C._roundtrip([tensor, tensor])
        assert first is second
        holder = Plain(); holder.x = tensor
        assert _C._roundtrip(holder).x.tolist() == [7.0, 2.0, 3.0]
        view = _C.Tensor(memoryview(bytes(range(6))).cast("B", (2, 3)))
        assert view.tolist() == [[0, 1, 2], [3, 4, 5]] and view.shape == (2, 3)
        fixed = bytes(4)
        memoryview(_C.Tensor(fixed))[0] = 1
        assert fixed == bytes(4)
        import copy, pickle
        assert pickle.loads(pickle.dumps(view)).tolist() == view.tolist() and copy.copy(view).shape == (2, 3)
        assert repr(view) == "tendril.Tensor(shape=(2, 3), dtype='uint8')"
        for code, numbers in (("b", [-1, 1]), ("H", [1, 65535]), ("q", [-2**63, 5]), ("Q", [2**64 - 1]), ("d", [0.5])):
            assert _C.Tensor(array.array(code, numbers)).tolist() == numbers
        for bad in ("text", 3, None, [1.0]):
            try:
                _C.Tensor(bad)
            except TypeError as error:
                assert "made of what speaks DLPack" in str(error)
            else:
                raise AssertionError(bad)
        assert _C._roundtrip(memoryview(source), "schema").tolist() == [7.0, 2.0, 3.0]
        assert not {"torch", "numpy"} & set(sys.modules)
        """
    )


def test_lambdas_need_cloudpickle():
    run(
        """
        try:
            _C._roundtrip(lambda: 1)
        except Exception as error:
            assert "pickle" in str(error), error
        else:
            raise AssertionError("pickled")
        """
    )


def test_arrays_without_torch():
    pytest.importorskip("numpy")
    run(
        """
        import numpy
        tensor = _C.Tensor(array.array("d", [1, 2]))
        assert type(_C._roundtrip(tensor)) is numpy.ndarray
        assert type(_C._roundtrip(numpy.float32(1))) is numpy.float32
        assert "torch" not in sys.modules
        assert numpy.asarray(tensor).tolist() == [1.0, 2.0]
        assert numpy.from_dlpack(tensor).tolist() == [1.0, 2.0]
        """,
        refused=("torch",),
    )


def test_own_tensors_with_torch():
    pytest.importorskip("torch")
    run(
        """
        tensor = _C.Tensor(array.array("d", [1, 2]))
        assert type(_C._roundtrip([tensor, 1])[0]) is _C.Tensor
        import torch
        assert type(_C._roundtrip(tensor)) is torch.Tensor
        assert torch.from_dlpack(tensor).tolist() == [1.0, 2.0]
        assert type(_C._roundtrip(_C.Tensor(array.array("Q", [1])))).__name__ in ("ndarray", "Tensor")
        """,
        refused=(),
    )
