# SPDX-License-Identifier: Apache-2.0
"""Runs one example through `tendril run`, and checks what it prints.

    test_examples.py NAME TENDRIL EXAMPLES_DIRECTORY DIGITS_CSV
"""

import collections
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

NAME, TENDRIL, EXAMPLES, DIGITS = sys.argv[1:5]


def run(ranks, *command, env=()):
    """The lines that all ranks printed, without the prefixes; fails where the run does."""
    options = [f"--env={setting}" for setting in env]
    result = subprocess.run(
        [TENDRIL, "run", "-n", str(ranks), "--timeout", "240", *options, "--", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=280, check=False,
    )
    if result.returncode != 0:
        sys.exit(f"exit status {result.returncode}\n{result.stdout}{result.stderr}")
    return [re.sub(r"^\[\d+\] ?", "", line) for line in result.stdout.splitlines()]


def check(condition, lines):
    if not condition:
        sys.exit("not what was expected:\n" + "\n".join(lines))


def hello():
    lines = run(4, f"{EXAMPLES}/hello")
    greetings = collections.Counter(lines)
    expected = {f"hello worker{a}, this is worker{b}" for a in range(4) for b in range(4)}
    check(set(greetings) == expected and all(count == 1 for count in greetings.values()), lines)


def ring():
    lines = run(3, f"{EXAMPLES}/ring", "1000")
    check(lines == ["1000 hops, through 1001 workers' functions, ended at worker1"], lines)


def scatter():
    lines = run(4, f"{EXAMPLES}/scatter")
    check(lines == ["4 workers summed 1000000 numbers: 499999500000 (expected 499999500000)"], lines)


def replay_buffer():
    lines = run(5, f"{EXAMPLES}/replay_buffer")
    expected = [
        "3 actors pushed 960 transitions to worker1, which keeps 512",
        "learnt: reward = 2.00 * state -1.00 * action +0.50",
        "nobody refers to the buffer any more: it is freed",
    ]
    check(sorted(lines) == expected, lines)


def pipeline():
    lines = run(4, f"{EXAMPLES}/pipeline", DIGITS)
    result = re.fullmatch(r"(\d+) of 360 test digits read; the same as without the pipeline", lines[0])
    check(result and int(result.group(1)) >= 350, lines)
    received = dict(re.fullmatch(r"(worker\d) received +(\d+) bytes", line).groups() for line in lines[1:])
    received = {name: int(count) for name, count in received.items()}
    check(set(received) == {f"worker{rank}" for rank in range(4)}, lines)
    # The images go to worker2, the distances to worker3, and neither to the driver.
    check(received["worker2"] > 400_000 and received["worker3"] > 2_000_000, lines)
    check(received["worker0"] < 50_000 and received["worker1"] < 50_000, lines)


def check_growth(lines):
    *changes, result = lines
    sizes = [int(re.search(r"members (\d)", line).group(1)) for line in changes]
    check(sorted(sizes) == [1, 2, 2, 3, 3, 4, 4, 5, 5, 6] and sizes[5] == 6 and sizes[-1] == 2, lines)
    ends = {" ".join(line.split(":")[0].split()) for line in changes[6:]}
    check(ends == {"worker5 is gone", "worker4 left", "worker3 left", "worker2 left"}, lines)
    numbers = re.fullmatch(r"(\d+) ranges in (\d+) calls: (\d+) primes below (\d+) \(expected (\d+)\)", result)
    check(numbers, lines)
    ranges, calls, primes, below, expected = map(int, numbers.groups())
    check(primes == expected and below == 1000 * ranges and calls >= ranges >= 150, lines)


def growing_group():
    check_growth(run(6, f"{EXAMPLES}/growing_group"))
    with tempfile.TemporaryDirectory() as directory:
        check_growth(run(6, f"{EXAMPLES}/growing_group", env=[f"TENDRIL_INIT_METHOD=file://{directory}/store"]))


def readme():
    """What README quotes from the examples is in them, but for comments and line breaks."""
    top = pathlib.Path(DIGITS).parents[2]
    examples = "".join(squeeze(path.read_text()) for path in sorted((top / "examples").glob("*.c")))
    tour = re.search(r"\n## References\n(.*?)\n## The house\n", (top / "README.md").read_text(), re.DOTALL)
    check(tour, ["README has no such part"])
    blocks = re.findall(r"```c\n(.*?)```", tour.group(1), re.DOTALL)
    check(len(blocks) == 3, blocks)
    for statement in ";".join(squeeze(block) for block in blocks).split(";"):
        check(statement in examples, ["README quotes what is in no example:", statement])


def squeeze(code):
    """Code without comments and blanks."""
    return re.sub(r"\s+", "", re.sub(r"/\*.*?\*/", "", code, flags=re.DOTALL))


def digits():
    lines = run(3, f"{EXAMPLES}/digits", DIGITS)
    accuracy = re.search(r"accuracy ([0-9.]+)$", lines[-1])
    check(accuracy and float(accuracy.group(1)) >= 0.90, lines)
    check(any(line.startswith("version ") for line in lines), lines)
    check(sum(line.startswith(("ps ", "trainer")) for line in lines) == 3, lines)


def valgrind():
    if not shutil.which("valgrind"):
        sys.exit(77)
    run(3, "valgrind", "--quiet", "--leak-check=full", "--show-leak-kinds=definite,possible",
        "--errors-for-leak-kinds=definite,possible", "--error-exitcode=9", f"{EXAMPLES}/digits", DIGITS, "2")


# ---- in Python ----


def need(module):
    """Skips the test where a module of others is not installed."""
    if not importlib.util.find_spec(module):
        sys.exit(77)


def python_digits():
    need("numpy")
    trainer = f"{sys.executable} {PROGRAMS}/digits.py {DIGITS}"
    lines = run(3, "sh", "-c", f'if [ "$RANK" = 0 ]; then exec {EXAMPLES}/digits_server; else exec {trainer}; fi')
    accuracy = re.search(r"360 test digits, accuracy ([0-9.]+)$", lines[-1])
    check(accuracy and float(accuracy.group(1)) >= 0.90, lines)
    check("2 trainers in Python pushed 1056 gradients to a model in C" in lines, lines)


def python_torch_batching():
    need("torch")
    lines = run(4, sys.executable, "-m", "tendril.torch", f"{PROGRAMS}/torch_batching.py")
    check("learnt 2.00 -3.00 0.50 1.00" in lines, lines)


def python_async_calls():
    lines = run(3, sys.executable, f"{PROGRAMS}/async_calls.py")
    result = re.fullmatch(r"2000 answers; up to (\d+) questions were under way at once", lines[0])
    check(result and int(result.group(1)) > 500, lines)


def python_growing_group():
    lines = run(5, sys.executable, f"{PROGRAMS}/growing_group.py")
    gone, result = lines
    check(gone == "worker4 is gone, and its task is given to others", lines)
    check(result == "4 workers found 17984 primes below 200000", lines)


def python_readme():
    """The programs in README run as they stand there, and print what it says."""
    text = (TOP / "README.md").read_text()
    run_line = r"\$ tendril run -n (\d+) -- (.*?)\n"
    programs = re.findall(rf"```python\n(# (\w+\.py)\n.*?)```\n+```\n{run_line}(.*?)```", text, re.DOTALL)
    check(len(programs) >= 1, ["README has no program in Python, or not what it prints"])
    for program, name, ranks, command, output in programs:
        with tempfile.TemporaryDirectory() as directory:
            (pathlib.Path(directory) / name).write_text(program)
            words = command.replace(name, f"{directory}/{name}").split()
            check(words[0] == "python3", [command])
            lines = run(int(ranks), sys.executable, *words[1:])
        expected = [re.sub(r"^\[\d+\] ?", "", line) for line in output.splitlines()]
        check(sorted(lines) == sorted(expected), lines)
    examples = "".join(path.read_text() for path in PROGRAMS.glob("*.py"))
    for block in re.findall(r"```python\n(?!# \w+\.py\n)(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            check(re.sub(r" +#.*", "", line) in examples, ["README quotes what is in no example:", line])


TOP = pathlib.Path(DIGITS).parents[2]
PROGRAMS = TOP / "examples" / "python"
os.environ["PYTHONPATH"] = str(pathlib.Path(EXAMPLES).parent / "python")
os.environ.pop("TENDRIL_LOG", None)
globals()[NAME]()
