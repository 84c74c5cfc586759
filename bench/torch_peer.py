#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The peer that Tendril is measured beside: torch.distributed.rpc over its uv transport, which is tcp.

    torch_peer.py PORT RANK

One of two workers; both meet at PORT of 127.0.0.1. Writes "ready" once torch is imported, since importing it is not
what is measured, and waits for a line; then joins the group and writes the time (nanoseconds of CLOCK_MONOTONIC) at
which it had. Rank 0 then answers commands, one a line, with one number each, and rank 1 serves until rank 0 has left:

    pipelined COUNT BATCH    calls a second: BATCH calls are issued, then all waited for; COUNT times
    add COUNT                microseconds, median of COUNT calls of torch.add, on two tensors of 64 bytes
    remote_add COUNT         the same, with the sum left at worker 1, fetched from there, and let go of
    remotes COUNT BATCH      references a second: BATCH are made, all waited for and let go of; COUNT times
"""

import statistics
import sys
import time

import torch
import torch.distributed.rpc as rpc


def nothing():
    """The function that is called."""


def pipelined(count, batch):
    for i in range(count + 1):
        if i == 1:  # the first was to warm up
            begin = time.monotonic_ns()
        torch.futures.wait_all([rpc.rpc_async("worker1", nothing) for _ in range(batch)])
    return count * batch * 1e9 / (time.monotonic_ns() - begin)


def time_each(once, count):
    """Microseconds that one takes: the median of `count`, after a tenth more to warm up."""
    samples = []
    for _ in range(count + count // 10 + 1):
        begin = time.monotonic_ns()
        once()
        samples.append(time.monotonic_ns() - begin)
    return statistics.median(samples[-count:]) / 1e3


def add(count):
    tensor = torch.ones(16)
    return time_each(lambda: rpc.rpc_sync("worker1", torch.add, args=(tensor, tensor)), count)


def remote_add(count):
    tensor = torch.ones(16)
    return time_each(lambda: rpc.remote("worker1", torch.add, args=(tensor, tensor)).to_here(), count)


def remotes(count, batch):
    for i in range(count + 1):
        if i == 1:  # the first was to warm up
            begin = time.monotonic_ns()
        rrefs = [rpc.remote("worker1", nothing) for _ in range(batch)]
        torch.futures.wait_all([rref._get_future() for rref in rrefs])
        del rrefs
    return count * batch * 1e9 / (time.monotonic_ns() - begin)


COMMANDS = {"pipelined": pipelined, "add": add, "remote_add": remote_add, "remotes": remotes}


def main():
    port, rank = int(sys.argv[1]), int(sys.argv[2])
    print("ready", flush=True)
    sys.stdin.readline()
    options = rpc.TensorPipeRpcBackendOptions(
        init_method=f"tcp://127.0.0.1:{port}", _transports=["uv"], _channels=["basic"]
    )
    rpc.init_rpc(f"worker{rank}", rank=rank, world_size=2, rpc_backend_options=options)
    print(time.monotonic_ns(), flush=True)
    while rank == 0 and (words := sys.stdin.readline().split()):
        if words[0] not in COMMANDS:
            sys.exit(f"torch_peer: no command {words[0]}")
        print(COMMANDS[words[0]](*map(int, words[1:])), flush=True)
    rpc.shutdown()


if __name__ == "__main__":
    main()
