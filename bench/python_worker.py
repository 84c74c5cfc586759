#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Calls from Python to Python, by Tendril or by its peer: all but what is imported is the same.

    python_worker.py PACKAGE[:tcp] PORT RANK

PACKAGE is tendril.rpc or torch.distributed.rpc. One of two workers; both meet at PORT of 127.0.0.1, and have the
options that their package chooses where nothing is said; with ":tcp", all goes over tcp. Writes "ready" once it has
joined. Rank 0 then answers commands, one a line, with one number each, and rank 1 serves until rank 0 has left:

    call COUNT                  microseconds, median of COUNT calls without arguments
    add COUNT                   the same of a call with two ints that returns their sum
    pipelined COUNT BATCH       calls a second: BATCH calls are issued, then all waited for; COUNT times
    echo COUNT KIND BYTES       milliseconds, median of COUNT calls with an array that comes back; KIND: numpy or torch
"""

import importlib
import statistics
import sys
import time

package, _, way = sys.argv[1].partition(":")
rpc = importlib.import_module(package)


def nothing():
    """The function that is called."""


def add(left, right):
    return left + right


def same(argument):
    return argument


def time_each(once, count):
    """Nanoseconds that one takes: the median of `count`, after a tenth more to warm up."""
    samples = []
    for _ in range(count + count // 10 + 1):
        begin = time.monotonic_ns()
        once()
        samples.append(time.monotonic_ns() - begin)
    return statistics.median(samples[-count:])


def measure_call(count):
    return time_each(lambda: rpc.rpc_sync("worker1", nothing), int(count)) / 1e3


def measure_add(count):
    return time_each(lambda: rpc.rpc_sync("worker1", add, args=(1, 2)), int(count)) / 1e3


def measure_pipelined(count, batch):
    for i in range(int(count) + 1):
        if i == 1:  # the first was to warm up
            begin = time.monotonic_ns()
        for future in [rpc.rpc_async("worker1", nothing) for _ in range(int(batch))]:
            future.wait()
    return int(count) * int(batch) * 1e9 / (time.monotonic_ns() - begin)


def measure_echo(count, kind, size):
    package = importlib.import_module(kind)
    array = package.ones(int(size), dtype=package.uint8)
    return time_each(lambda: rpc.rpc_sync("worker1", same, args=(array,)), int(count)) / 1e6


COMMANDS = {"call": measure_call, "add": measure_add, "pipelined": measure_pipelined, "echo": measure_echo}


def main():
    port, rank = int(sys.argv[2]), int(sys.argv[3])
    ways = {"_transports": ["uv"], "_channels": ["basic"]} if way == "tcp" else {}
    options = rpc.TensorPipeRpcBackendOptions(init_method=f"tcp://127.0.0.1:{port}", **ways)
    rpc.init_rpc(f"worker{rank}", rank=rank, world_size=2, rpc_backend_options=options)
    print("ready", flush=True)
    while rank == 0 and (words := sys.stdin.readline().split()):
        if words[0] not in COMMANDS:
            sys.exit(f"python_worker: no command {words[0]}")
        print(COMMANDS[words[0]](*words[1:]), flush=True)
    rpc.shutdown()


if __name__ == "__main__":
    main()
