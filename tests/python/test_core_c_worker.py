# SPDX-License-Identifier: Apache-2.0
"""Members written in C and in Python in one group, calling each other."""

import os
import pathlib
import subprocess

import core_helpers as helpers
import pytest
from core_helpers import Counter, call_async, increment_local, remote, sync

from tendril import _C

LIMIT_SECONDS = 60


@pytest.fixture(scope="session")
def c_worker(tmp_path_factory):
    """The program c_worker.c, built against the library that the extension uses."""
    here = pathlib.Path(__file__).parent
    library = pathlib.Path(_C.__file__).parents[2] / "src"
    if not (library / "libtendril.so").exists():
        pytest.skip("the package is not used from a build tree")
    program = tmp_path_factory.mktemp("c_worker") / "c_worker"
    subprocess.run(
        ["cc", "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Wno-unused-parameter", "-o", program,
         here / "c_worker.c", f"-I{here.parents[1] / 'include'}", f"-L{library}", f"-Wl,-rpath,{library}", "-ltendril"],
        check=True, timeout=LIMIT_SECONDS,
    )
    return program


@pytest.fixture
def pair(c_worker, tmp_path):
    """This process as the member "worker0", and the C program as "c"."""
    url = f"file://{tmp_path}/meeting"
    program = subprocess.Popen([c_worker, "c", "1", "2", url], stderr=subprocess.PIPE, text=True)
    try:
        agent = helpers.join(0, 2, url, join_timeout_ms=30000)
        yield agent
        agent.shutdown(timeout=30)
        _, errors = program.communicate(timeout=LIMIT_SECONDS)
        assert program.returncode == 0, errors
    finally:
        _C.reset_current_agent()
        if program.poll() is None:
            program.kill()
            program.wait()


VALUES = [
    None, True, 3, -(1 << 63), 1 << 100, 2.5, 1 + 2j,
    "text", "é\0x", b"\0bytes", [1, [2]], (1, (2,)), {"a": {1: 2}}, {1, 2},
]  # fmt: skip


def test_python_calls_c(pair):
    assert sync("c", "c::scale", 3) == 6.0
    assert sync("c", "c::scale", 3, b=1.5) == 4.5
    assert call_async(1, "c::scale", 3, 4).wait() == 12.0
    assert remote("c", "c::scale", 3).to_here() == 6.0
    for value in VALUES:
        result = sync("c", "c::echo", value)
        assert result == value
        assert type(result) is type(value)
    assert sync("c", "c::echo", Counter(3)).count == 3
    with pytest.raises(RuntimeError, match="there is no layer 7") as info:
        sync("c", "c::fail")
    assert info.value.status == "TDR_EINVAL"
    with pytest.raises(RuntimeError, match="there is no layer 7"):
        remote("c", "c::fail").to_here()
    with pytest.raises(RuntimeError, match="c::scale"):
        sync("c", "c::scale", "text")
    with pytest.raises(RuntimeError, match="there is no function"):
        sync("c", max, 1, 2)


def test_c_calls_python(pair):
    assert sync("c", "c::call", "worker0", "python::core_helpers:add", [1, 2], {"c": 3}) == 6
    assert sync("c", "c::call", "worker0", "python::builtins:max", [1, 2]) == 2
    assert sync("c", "c::call", "worker0", "python::test_core_calls:add_slowly", (1, 2)) == 3
    for value in VALUES:
        assert sync("c", "c::call", "worker0", "python::core_helpers:identity", [value]) == value
    with pytest.raises(RuntimeError, match="ValueError: invalid literal for int"):
        sync("c", "c::call", "worker0", "python::builtins:int", ["x"])
    with pytest.raises(RuntimeError, match="RPC pickler does not serialize"):
        sync("c", "c::call", "worker0", "python::core_helpers:nothing", [])


def test_references_between_them(pair):
    # An object of C's: it cannot leave its worker, and Python holds it.
    box = remote("c", "box::make", 5)
    assert box.owner_name() == "c"
    assert sync("c", "box::add", box, 3) == 8
    assert sync("c", "box::add", box, 1) == 9
    with pytest.raises(RuntimeError, match="box::Box"):
        box.to_here()
    # An object of Python's, made for C, passed back: the very object is here.
    counter = sync("c", "c::remote", "worker0", "python::core_helpers:Counter", [7])
    assert counter.is_owner()
    assert counter.local_value().count == 7
    assert sync("worker0", increment_local, counter) == 8
    # C fetches what is plain.
    mine = _C.PyRRef([1, {"a": 2}])
    assert sync("c", "c::fetch", mine) == [1, {"a": 2}]
    # And what is not, as bytes that Python reads.
    assert sync("c", "c::fetch", counter).count == 8
    assert sync("c", "c::echo", counter).local_value() is counter.local_value()
    assert os.getpid() == sync("c", "c::call", "worker0", "python::os:getpid", [])
