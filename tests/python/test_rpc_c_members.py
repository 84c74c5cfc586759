# SPDX-License-Identifier: Apache-2.0
"""Groups in which `tendril.rpc` is a member beside programs in C."""

import contextlib
import subprocess

import pytest
from test_core_c_worker import LIMIT_SECONDS, c_worker  # noqa: F401

from tendril import rpc


@rpc.register("mixed::weigh(Tensor x, int times, *, float offset=0.5) -> float")
def weigh(x, times, offset):
    return float(x.sum()) * times + offset


def options(url):
    return rpc.TensorPipeRpcBackendOptions(init_method=url)


@contextlib.contextmanager
def beside(program, url, rank, size):
    """The C program as the member "c" while the body runs; it has to end well."""
    process = subprocess.Popen([program, "c", str(rank), str(size), url], stderr=subprocess.PIPE, text=True)
    try:
        yield
        _, errors = process.communicate(timeout=LIMIT_SECONDS)
        assert process.returncode == 0, errors
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture
def pair(c_worker, tmp_path):  # noqa: F811
    """This process as "python", with "c"."""
    url = f"file://{tmp_path}/meeting"
    with beside(c_worker, url, 1, 2):
        with rpc.session("python", rank=0, world_size=2, rpc_backend_options=options(url)):
            yield


def test_calls_both_ways(pair):
    assert rpc.rpc_sync("c", rpc.ops.c.scale, args=(3,), kwargs={"b": 1.5}) == 4.5
    assert rpc.rpc_async("c", rpc.ops.c.scale, args=(3,)).wait() == 6.0
    assert rpc.api._all_gather(5) == {"python": 5}


def test_a_python_function_under_a_schema(pair):
    numpy = pytest.importorskip("numpy")
    ones = numpy.ones((2, 3), numpy.float32)
    assert rpc.rpc_sync("c", rpc.ops.c.call, args=("python", "mixed::weigh", [ones, 2])) == 12.5
    assert rpc.rpc_sync("c", rpc.ops.c.call, args=("python", "mixed::weigh", [ones, 2], {"offset": 1.0})) == 13.0
    with pytest.raises(RuntimeError, match="mixed::weigh"):
        rpc.rpc_sync("c", rpc.ops.c.call, args=("python", "mixed::weigh", ["text", 2]))


def test_functions_of_a_c_object(pair):
    box = rpc.remote("c", rpc.ops.box.make, args=(5,))
    assert box.rpc_sync().add(3) == 8
    assert box.rpc_async().add(number=2).wait() == 10
    assert box.remote().add().to_here() == 11
    with pytest.raises(RuntimeError, match="box::Box::lose"):
        box.rpc_sync().lose()
    with pytest.raises(RuntimeError, match="box::Box"):
        box.to_here()


def be_member(rank, world_size, url):
    with rpc.session(f"worker{rank}", rank=rank, world_size=world_size + 1, rpc_backend_options=options(url)):
        gathered = rpc.api._all_gather(rank)
        assert gathered == {f"worker{other}": other for other in range(world_size)}
        rpc.api._barrier([f"worker{other}" for other in range(world_size)])
        rpc.api._get_current_rpc_agent().join()
        box = rpc.remote("c", rpc.ops.box.make, args=(rank,))
        other = (rank + 1) % world_size
        assert rpc.rpc_sync(f"worker{other}", use_box, args=(box,)) == rank + 1


def use_box(box):
    return box.rpc_sync().add()


def test_several_of_them(group, c_worker):  # noqa: F811
    url = group.url()
    with beside(c_worker, url, 3, 4):
        group(3, be_member, url=url)


def test_a_group_that_changes(c_worker, tmp_path):  # noqa: F811
    url = f"file://{tmp_path}/meeting"
    with rpc.session("python", rank=0, rpc_backend_options=options(url)):
        with beside(c_worker, url, 1, 0):
            for _ in range(1000):
                with contextlib.suppress(RuntimeError):
                    assert rpc.rpc_sync("c", rpc.ops.c.scale, args=(3,)) == 6.0
                    break
            assert rpc.rpc_sync("python", max, args=(1, 2)) == 2
