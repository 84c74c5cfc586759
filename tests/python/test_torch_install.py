# SPDX-License-Identifier: Apache-2.0
"""Tendril in the place of torch.distributed.rpc: how it gets there, and what it does with what is torch's."""

import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("torch")

SECONDS = 120


def run(program, *arguments, **environment):
    """Runs a program in a process of its own; gives what it prints."""
    names = {name: value for name, value in os.environ.items() if name != "TENDRIL_TORCH"}
    command = [sys.executable, *arguments] if program is None else [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(
        command, env={**names, **environment}, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def package_root():
    import tendril

    return os.path.dirname(os.path.dirname(os.path.abspath(tendril.__file__)))


# ---- getting there ----


def test_modules_are_replaced_everywhere():
    run("""
        import sys
        import tendril.torch
        assert not tendril.torch.is_installed()
        tendril.torch.install()
        tendril.torch.install()
        assert tendril.torch.is_installed()
        import torch
        import torch.distributed.rpc as by_name
        from torch.distributed import rpc as by_attribute
        import tendril.rpc
        assert by_name is by_attribute is torch.distributed.rpc is tendril.rpc
        assert by_name.__spec__.name == "tendril.rpc"
        names = "api internal options constants functions backend_registry _utils rref_proxy"
        for name in names.split():
            module = __import__("torch.distributed.rpc." + name, fromlist=["x"])
            assert module is getattr(tendril.rpc, name), name
            assert module.__name__ == module.__spec__.name == "tendril.rpc." + name
        import torch.distributed.autograd, tendril.autograd
        assert torch.distributed.autograd is tendril.autograd
        assert torch._jit_internal.RRef is torch.jit.annotations.RRef is tendril.rpc.RRef
        assert torch.nn.parallel.distributed.RRef is tendril.rpc.RRef
        import torch.distributed.optim.optimizer, torch.distributed.nn.api.remote_module as remote_module
        assert remote_module.rpc is tendril.rpc
    """)


def test_testing_backend_is_registered_when_it_is_imported():
    run("""
        import tendril.torch
        tendril.torch.install()
        import torch.distributed.rpc as rpc
        assert "FAULTY_TENSORPIPE" not in rpc.backend_registry.BackendType.__members__
        import torch.distributed.rpc._testing
        assert rpc.backend_registry.BackendType.FAULTY_TENSORPIPE.name == "FAULTY_TENSORPIPE"
        import tendril.rpc._testing
        assert torch.distributed.rpc._testing is tendril.rpc._testing
    """)


def test_modules_imported_before_are_mended():
    run("""
        import torch, torch.distributed.optim.optimizer as optimizer
        import torch.distributed.nn.api.remote_module as remote_module
        import tendril.torch
        tendril.torch.install()
        import tendril.rpc
        assert optimizer.rpc is tendril.rpc and optimizer.RRef is tendril.rpc.RRef
        assert remote_module.rpc is tendril.rpc
    """)


def test_nothing_is_installed_by_importing():
    run("""
        import tendril.torch, sys
        assert "torch" not in sys.modules
        import torch
        assert torch.distributed.rpc.__name__ == "torch.distributed.rpc"
    """)


def test_without_torch_the_error_says_so():
    run("""
        import sys
        sys.modules["torch"] = None
        import tendril.torch
        try:
            tendril.torch.install()
        except ImportError as error:
            assert "tendril.torch needs torch" in str(error), error
            assert error.name == "torch"
        else:
            raise AssertionError
    """)


def test_a_group_of_torch_is_in_the_way(tmp_path):
    run(f"""
        import torch.distributed.rpc as rpc
        options = rpc.TensorPipeRpcBackendOptions(init_method="file://{tmp_path}/meeting")
        rpc.init_rpc("alone", rank=0, world_size=1, rpc_backend_options=options)
        import tendril.torch
        try:
            tendril.torch.install()
        except RuntimeError as error:
            assert "before torch.distributed.rpc.init_rpc" in str(error), error
        else:
            raise AssertionError
        rpc.shutdown()
    """)


PROGRAM = """
import subprocess, sys, torch.distributed.rpc
print(__name__, sys.argv[1:], torch.distributed.rpc.__name__)
if "parent" in sys.argv:
    print(subprocess.run([sys.executable, __file__, "child"], stdout=subprocess.PIPE, text=True, check=True).stdout)
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def test_run_as_a_module(program):
    lines = run(None, "-m", "tendril.torch", str(program), "parent", "-x").split("\n")
    assert lines[0] == "__main__ ['parent', '-x'] tendril.rpc"
    assert lines[1] == "__main__ ['child'] tendril.rpc"


def test_run_a_module_as_a_module(program):
    command = [sys.executable, "-m", "tendril.torch", "-m", "program", "parent"]
    done = subprocess.run(command, cwd=program.parent, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "__main__ ['parent'] tendril.rpc"


def test_run_without_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "tendril.torch"], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 1 and "usage: python -m tendril.torch" in done.stderr


def test_by_the_environment(program):
    site = os.path.join(package_root(), "tendril", "torch", "_site")
    environment = {"TENDRIL_TORCH": "1", "PYTHONPATH": os.pathsep.join([site, package_root()])}
    assert run(None, str(program), **environment).startswith("__main__ [] tendril.rpc")
    environment["TENDRIL_TORCH"] = "0"
    assert run(None, str(program), **environment).startswith("__main__ [] torch.distributed.rpc")


def test_by_the_file_that_python_reads_at_its_start(program, tmp_path):
    import tendril.torch

    here = pathlib.Path(os.path.realpath(tendril.torch.__file__))
    line = (here.parents[2] / "tendril-torch.pth").read_text()
    assert line.startswith("import ")
    code = f"import runpy, sys\n{line}\nrunpy.run_path({str(program)!r}, run_name='__main__')"
    assert run(code, TENDRIL_TORCH="1").startswith("__main__ ['-c'] tendril.rpc") or run(
        code, TENDRIL_TORCH="1"
    ).startswith("__main__ [] tendril.rpc")


def test_another_sitecustomize_is_run_as_well(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.other_was_here = True\n")
    site = os.path.join(package_root(), "tendril", "torch", "_site")
    path = os.pathsep.join([site, package_root(), str(tmp_path)])
    run("import sys\nassert sys.other_was_here", PYTHONPATH=path)


def test_children_by_spawn_install_it(tmp_path):
    program = tmp_path / "spawns.py"
    program.write_text(
        textwrap.dedent("""
            import multiprocessing

            def child(channel):
                import torch.distributed.rpc
                channel.send(torch.distributed.rpc.__name__)

            if __name__ == "__main__":
                import tendril.torch
                tendril.torch.install()
                context = multiprocessing.get_context("spawn")
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=child, args=(theirs,))
                process.start()
                print(ours.recv())
                process.join()
        """)
    )
    assert run(None, str(program)) == "tendril.rpc\n"


# ---- what is torch's ----


def _alone(url):
    """This process as a group of one, over Tendril."""
    import tendril.torch

    tendril.torch.install()
    import torch.distributed.rpc as rpc

    options = rpc.TensorPipeRpcBackendOptions(init_method=url)
    rpc.init_rpc("alone", rank=0, world_size=1, rpc_backend_options=options)
    return rpc


def run_operators(rank, world_size, url):
    rpc = _alone(url)
    import torch

    assert rpc.rpc_sync("alone", torch.add, (torch.ones(2), 1)).tolist() == [2, 2]
    assert rpc.rpc_async("alone", torch.mul, (torch.ones(2), torch.ones(2)), {}).wait().tolist() == [1, 1]
    sparse = torch.eye(2).to_sparse()
    assert rpc.remote("alone", torch.add, (sparse, sparse)).to_here().to_dense().tolist() == [[2, 0], [0, 2]]
    for call in (rpc.rpc_sync, rpc.rpc_async, rpc.remote):
        with pytest.raises(RuntimeError, match="torch operator invoked from Python failed to many any schema"):
            call("alone", torch.add)
        with pytest.raises(RuntimeError, match="failed to many any schema"):
            call("alone", torch.add, (torch.ones(1), 1), {"alhpa": 2})
    with pytest.raises(RuntimeError, match="size of tensor"):
        rpc.rpc_sync("alone", torch.add, (torch.ones(2), torch.ones(3)))
    rpc.shutdown()


def test_operators(group):
    group(1, run_operators)


def run_operators_of_numbers(rank, world_size, url):
    rpc = _alone(url)
    import torch

    def check(expected, func, *args, **kwargs):
        for call in (rpc.rpc_sync, lambda *call: rpc.remote(*call).to_here()):
            result = call("alone", func, args, kwargs)
            assert type(result) is type(expected) and result == expected, (func, args, kwargs, result)

    # Each of these is what torch.distributed.rpc gives, too, which takes the first schema that fits.
    check(3, torch.add, 1, 2)
    check(3, torch.add, a=1, b=2)
    check(3, torch.add, 1, b=2)
    check(2, torch.add, True, 1)
    check(3.5 + 0j, torch.add, 1, 2.5)
    check(2 + 1j, torch.add, 1j, 2)
    check(1e30 + 0j, torch.add, 10**30, 1)
    check(3, torch.add, 1, torch.tensor(2))
    check(-1, torch.sub, 2, 3)
    check(6, torch.mul, 2, 3)
    check(3.5, torch.div, 7, 2)
    check(8.0, torch.pow, 2, 3)
    check(2.0, torch.sqrt, 4)
    check(True, torch.lt, 1, 2)
    check("ab", torch.add, "a", "b")
    # The last two it refuses, although torch itself takes them.
    for args, kwargs in (((torch.tensor(1), 2), {}), ((2, torch.ones(2)), {}), ((1,), {"other": 2})):
        result = rpc.rpc_sync("alone", torch.add, args, kwargs)
        assert isinstance(result, torch.Tensor) and (result == 3).all()
    with pytest.raises(RuntimeError, match="failed to many any schema"):
        rpc.rpc_sync("alone", torch.add, ([1], [2]))
    rpc.shutdown()


def test_operators_of_numbers(group):
    group(1, run_operators_of_numbers)


def _scripts():
    import torch

    @torch.jit.script
    def double(x: torch.Tensor, times: int = 2) -> torch.Tensor:
        return x * times

    @torch.jit.script
    def refuse(x: torch.Tensor) -> torch.Tensor:
        if bool(x.sum() > 0):
            raise RuntimeError("not this one")
        return x

    return double, refuse


def run_scripts(rank, world_size, url):
    rpc = _alone(url)
    import torch

    double, refuse = _scripts()
    assert rpc.rpc_sync("alone", double, (torch.ones(2),)).tolist() == [2, 2]
    assert rpc.remote("alone", double, (torch.ones(2),), {"times": 3}).to_here().tolist() == [3, 3]
    for call in (rpc.rpc_sync, rpc.rpc_async, rpc.remote):
        with pytest.raises(RuntimeError, match=r"double\(\) expected at most 2 argument"):
            call("alone", double, (torch.ones(2), 1, 2))
    with pytest.raises(RuntimeError, match="not this one"):
        rpc.rpc_sync("alone", refuse, (torch.ones(2),))
    with pytest.raises(RuntimeError, match="not this one"):
        rpc.remote("alone", refuse, (torch.ones(2),)).to_here()
    with pytest.raises(RuntimeError, match="must return an IValue of Future type, but got Tensor"):
        rpc.rpc_sync("alone", rpc.functions.async_execution(double), (torch.ones(2),))
    rpc.shutdown()


def test_script_functions(group):
    group(1, run_scripts)


def _late(seconds):
    import time

    time.sleep(seconds)
    return (1, 2)


def _refuse():
    raise ValueError("no")


def run_futures(rank, world_size, url):
    rpc = _alone(url)
    import torch

    future = rpc.rpc_async("alone", _late, (0,))
    assert isinstance(future, torch._C.Future)
    assert future.wait() == (1, 2)
    assert future.then(lambda done: sum(done.value())).wait() == 3
    with pytest.raises(RuntimeError, match="Future can only be marked completed once"):
        future.set_result(None)
    failed = rpc.rpc_async("alone", _refuse)
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            failed.wait()
    # The first does not complete before the error is known.
    never = torch.futures.Future()
    with pytest.raises(ValueError, match="no"):
        torch.futures.wait_all([never, rpc.rpc_async("alone", _refuse)])
    with pytest.raises(ValueError, match="no"):
        torch.futures.collect_all([never, failed]).wait()
    assert torch.futures.wait_all([future, future]) == [(1, 2), (1, 2)]
    assert torch.futures.wait_all([]) == []
    with pytest.raises(TypeError):
        torch.futures.collect_all([1])
    rpc.shutdown()


async def _endless():
    import asyncio

    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        _ended.append(True)
        raise


_ended = []


def run_modern_futures(rank, world_size, url):
    rpc = _alone(url)
    import asyncio
    import logging
    import time

    import torch

    async def main():
        assert await rpc.rpc_async("alone", _late, (0.01,)) == (1, 2)
        with pytest.raises(ValueError, match="no"):
            await rpc.rpc_async("alone", _refuse)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(rpc.rpc_async("alone", _endless), 0.05)

    asyncio.run(main())
    while not _ended:
        time.sleep(0.01)
    assert isinstance(rpc.rpc_async("alone", _late, (0,)), torch.futures.Future)
    assert not torch.futures.Future().done()
    # What nobody asks about is told at the end, and nothing else.
    for future in [rpc.rpc_async("alone", _refuse) for _ in range(2)]:
        while not future.done():
            time.sleep(0.001)
    for ask in (lambda future: future.wait(), lambda future: future.then(lambda done: done.value()).wait()):
        with pytest.raises((ValueError, RuntimeError), match="no"):
            ask(rpc.rpc_async("alone", _refuse))
    with pytest.raises(ValueError, match="no"):
        torch.futures.wait_all([rpc.rpc_async("alone", _refuse)])
    assert rpc.rpc_async("alone", _endless).cancel()
    reports = []
    handler = logging.Handler()
    handler.emit = lambda record: reports.append(record.getMessage())
    logging.getLogger("tendril.rpc.api").addHandler(handler)
    del future
    rpc.shutdown()
    (report,) = reports
    assert report.startswith("2 calls of this worker have failed"), report


def test_futures_are_awaited_cancelled_and_reported(group):
    group(1, run_modern_futures)


def test_futures(group):
    group(1, run_futures)


def run_profiler(rank, world_size, url):
    rpc = _alone(url)
    import torch
    from torch.autograd.profiler_legacy import profile

    with profile() as recorded:
        rpc.rpc_sync("alone", torch.add, (torch.ones(1), 1))
        rpc.rpc_async("alone", _late, (0,)).wait()
        with pytest.raises(ValueError, match="no"):
            rpc.rpc_async("alone", _refuse).wait()
        rpc.remote("alone", _late, (0,))._get_profiling_future().wait()
    names = [event.name for event in recorded.function_events if event.name.startswith("rpc_")]
    assert sorted(names) == [
        "rpc_async#_late(alone -> alone)",
        "rpc_async#_refuse(alone -> alone)",
        "rpc_remote#_late(alone -> alone)",
        "rpc_sync#aten::add(alone -> alone)",
    ]
    with torch.profiler.profile() as newer:
        rpc.rpc_sync("alone", _late, (0,))
    assert not [event for event in newer.events() if event.name.startswith("rpc_")]
    rpc.shutdown()


def test_profiler(group):
    group(1, run_profiler)


def run_gradients(rank, world_size, url):
    rpc = _alone(url)
    import torch
    import torch.distributed.autograd as dist_autograd

    weight = torch.ones(2, requires_grad=True)
    with dist_autograd.context():
        assert rpc.rpc_sync("alone", torch.add, (torch.ones(2), 1)).tolist() == [2, 2]
        for call in (rpc.rpc_sync, rpc.rpc_async, rpc.remote):
            with pytest.raises(NotImplementedError, match="require gradients"):
                call("alone", torch.add, (weight, 1))
    assert rpc.rpc_sync("alone", torch.add, (weight, 1)).tolist() == [2, 2]
    rref = rpc.RRef((weight * 3).sum())
    rref.backward()
    assert weight.grad.tolist() == [3, 3]
    with pytest.raises(RuntimeError, match="RRef should contain a tensor"):
        rpc.RRef("text").backward()
    rpc.shutdown()


def test_gradients(group):
    group(1, run_gradients)
