# SPDX-License-Identifier: Apache-2.0
"""The wheel: built once from a copy of the sources, and installed into virtual environments.

One has nothing but the wheel. Pytest and what it needs come from Debian's packages, by links in a directory of their
own; numpy, torch and all else are missing there. Another one sees the system's packages. All of it lies under
TENDRIL_WHEEL_DIR, where a build is kept, so that the next run compiles only what has changed.
"""

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ["LICENSE", "README.md", "include", "meson.build", "meson_options.txt", "pyproject.toml", "python", "src"]

# What pytest, its plugin for time limits and hypothesis import, and is not Python's own.
TEST_MODULES = [
    "_pytest", "attr", "attrs", "hypothesis", "iniconfig", "packaging", "pluggy", "py", "pytest",
    "pytest_timeout", "sortedcontainers",
]  # fmt: skip

# What a test may miss in an environment that has only the wheel.
MISSING = re.compile("numpy|torch|cloudpickle|trio|build tree|part of the extension")

OWN_TESTS_SECONDS = 900

PROGRAM = """\
import sys
import numpy
import torch
import torch.distributed.rpc as rpc

assert rpc.__name__.startswith("tendril") or rpc.init_rpc.__module__.startswith("tendril"), rpc.init_rpc.__module__
options = rpc.TensorPipeRpcBackendOptions(init_method="file://" + sys.argv[1])
rpc.init_rpc("alone", rank=0, world_size=1, rpc_backend_options=options)
assert torch.equal(rpc.rpc_sync("alone", torch.add, args=(torch.ones(3), 1)), torch.full((3,), 2.0))
assert isinstance(rpc.rpc_async("alone", max, args=(1, 2)), torch.futures.Future)
assert numpy.array_equal(rpc.remote("alone", numpy.arange, args=(4,)).to_here(), numpy.arange(4))
rpc.shutdown()
print("done")
"""


def run(*command, limit=120, **options):
    """Runs a command that has to succeed; gives what it wrote to standard output."""
    options.setdefault("env", environment())
    words = [str(word) for word in command]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=limit, check=False, **options)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}", pytrace=False)
    return done.stdout


def environment(**more):
    """The environment, without what would show Python more than is installed."""
    names = [name for name in os.environ if name.startswith(("PYTHON", "TENDRIL_", "PIP_", "VIRTUAL_ENV"))]
    return {**{name: value for name, value in os.environ.items() if name not in names}, "PIP_NO_INDEX": "1", **more}


@pytest.fixture(scope="module")
def place():
    """Where all of it lies."""
    path = pathlib.Path(os.environ["TENDRIL_WHEEL_DIR"])
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="module")
def wheel(place):
    """The file."""
    source, out = place / "source", place / "wheels"
    for path in (source, out):
        shutil.rmtree(path, ignore_errors=True)
    source.mkdir()
    for name in SOURCES:
        if (TOP / name).is_dir():
            shutil.copytree(TOP / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(TOP / name, source / name)
    run(
        sys.executable, "-m", "pip", "wheel", "--verbose", "--no-build-isolation", "--no-deps", "--wheel-dir", out,
        f"--config-settings=builddir={place / 'build'}", source, limit=900, stderr=subprocess.STDOUT,
    )  # fmt: skip
    (path,) = out.glob("*.whl")
    return path


def make_environment(path, wheel, *options):
    """A fresh virtual environment with the wheel; gives its interpreter."""
    shutil.rmtree(path, ignore_errors=True)
    run(sys.executable, "-m", "venv", *options, path)
    python = path / "bin" / "python3"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel)
    return python


@pytest.fixture(scope="module")
def bare(place, wheel):
    """The interpreter of an environment with nothing but the wheel."""
    return make_environment(place / "bare", wheel)


@pytest.fixture(scope="module")
def test_modules(place):
    """A directory with pytest and what it needs."""
    path = place / "pytest"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    for name in TEST_MODULES:
        origin = pathlib.Path(importlib.util.find_spec(name).origin)
        found = origin.parent if origin.name == "__init__.py" else origin
        (path / found.name).symlink_to(found)
    return path


def test_contents(wheel):
    package = TOP / "python" / "tendril"
    files = {
        f"tendril/{path.relative_to(package)}"
        for path in package.rglob("*")
        if path.is_file() and path.name != "meson.build" and "__pycache__" not in path.parts
    }
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    (extension,) = (name for name in names if re.fullmatch(r"tendril/_C\..*\.so", name))
    assert names - {extension} == files | {"tendril-torch.pth"}


def test_extension_has_the_library_inside(bare):
    extension = run(bare, "-c", "from tendril import _C; print(_C.__file__)").strip()
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "--dynamic", "--wide", extension))
    assert needed and not [name for name in needed if "tendril" in name]
    names = run("nm", "--dynamic", "--defined-only", "--format=posix", extension).splitlines()
    assert [line.split()[0] for line in names] == ["PyInit__C"]


def test_nothing_else_is_there(bare):
    for name in ("numpy", "torch", "cloudpickle", "pytest"):
        command = [bare, "-c", f"import {name}"]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
        assert f"No module named '{name}'" in done.stderr


def test_version(bare):
    program = "import importlib.metadata, tendril; print(importlib.metadata.version('tendril') == tendril.__version__)"
    assert run(bare, "-c", program).strip() == "True"


def test_import(bare):
    """How long imports take is not judged here: `make bench` does, on a machine that does nothing else."""
    program = "import tendril, tendril.rpc, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    modules = run(bare, "-c", program).split()
    assert "tendril" in modules and not {"numpy", "torch"} & set(modules)
    run(bare, "-X", "importtime", "-c", "import tendril, tendril.rpc", stderr=sys.stderr)


def test_torch_is_missed(bare, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import tendril.torch\ntendril.torch.install()\n")
    text = "tendril.torch needs torch, which cannot be imported here; `import tendril.rpc` does without it"

    def fails(*arguments, **more):
        done = subprocess.run([bare, *arguments], env=environment(**more), capture_output=True, text=True, check=False)
        assert done.returncode == 1
        return done.stderr

    assert text in fails(program)
    assert fails("-m", "tendril.torch", program).strip().endswith(text)
    assert "No module named 'torch'" in fails("-c", "import torch", TENDRIL_TORCH="1")
    assert run(bare, "-c", "import tendril.rpc", env=environment(TENDRIL_TORCH="1")) == ""


def test_own_tests(bare, test_modules, place, tmp_path):
    """The package's tests, without numpy and torch; but for those that only run long."""
    env = environment(
        PYTHONPATH=str(test_modules),
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
        HYPOTHESIS_STORAGE_DIRECTORY=str(place / "hypothesis"),
    )
    output = run(
        bare, TOP / "tools" / "pytest-tap", "-p", "pytest_timeout", "--timeout=300", "--basetemp", tmp_path / "own",
        f"--ignore={TOP / 'tests' / 'python' / 'test_endurance.py'}", TOP / "tests" / "python",
        limit=OWN_TESTS_SECONDS, env=env, stderr=sys.stderr,
    )  # fmt: skip
    passed = re.findall("^ok (?!.* # SKIP )", output, re.MULTILINE)
    skipped = re.findall("^ok .* # SKIP (.*)$", output, re.MULTILINE)
    assert len(passed) > len(skipped) > 0
    assert [reason for reason in skipped if not MISSING.search(reason)] == []


def test_system_packages(place, wheel, tmp_path):
    """An environment that has numpy and torch, too."""
    for name in ("numpy", "torch"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    python = make_environment(place / "system", wheel, "--system-site-packages")
    program, installing = tmp_path / "program.py", tmp_path / "installing.py"
    program.write_text(PROGRAM)
    installing.write_text("import tendril.torch\ntendril.torch.install()\n" + PROGRAM)
    assert run(python, installing, tmp_path / "a").strip() == "done"
    assert run(python, program, tmp_path / "b", env=environment(TENDRIL_TORCH="1")).strip() == "done"
    assert run(python, "-m", "tendril.torch", program, tmp_path / "c").strip() == "done"
