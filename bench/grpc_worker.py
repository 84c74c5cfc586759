#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The other peer of calls from Python to Python: gRPC, a unary call with bytes that nothing is made of.

    grpc_worker.py PORT RANK

Rank 1 serves at PORT of 127.0.0.1 until its input ends. Rank 0 answers commands, one a line, with one number each:

    call COUNT    microseconds, median of COUNT calls

Both write "ready" once they can.
"""

import concurrent.futures
import statistics
import sys
import time

import grpc

METHOD = "/bench.Worker/nothing"


def nothing(request, context):
    """The function that is called."""
    return b""


def serve(address):
    handler = grpc.method_handlers_generic_handler(
        "bench.Worker", {"nothing": grpc.unary_unary_rpc_method_handler(nothing)}
    )
    server = grpc.server(concurrent.futures.ThreadPoolExecutor())
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(address)
    server.start()
    print("ready", flush=True)
    sys.stdin.read()
    server.stop(grace=None).wait()


def measure_call(method, count):
    samples = []
    for _ in range(count + count // 10 + 1):
        begin = time.monotonic_ns()
        method(b"")
        samples.append(time.monotonic_ns() - begin)
    return statistics.median(samples[-count:]) / 1e3


def call(address):
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(METHOD)
        method(b"", wait_for_ready=True)
        print("ready", flush=True)
        while words := sys.stdin.readline().split():
            if words[0] != "call":
                sys.exit(f"grpc_worker: no command {words[0]}")
            print(measure_call(method, int(words[1])), flush=True)


if __name__ == "__main__":
    (call, serve)[int(sys.argv[2])](f"127.0.0.1:{sys.argv[1]}")
