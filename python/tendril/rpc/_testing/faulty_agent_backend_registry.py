# SPDX-License-Identifier: Apache-2.0
"""Registers the backend FAULTY_TENSORPIPE."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from tendril.rpc import api, backend_registry

from .faulty_agent import FaultyTensorPipeAgent, FaultyTensorPipeRpcBackendOptions


def _faulty_tensorpipe_construct_rpc_backend_options_handler(
    rpc_timeout: float,
    init_method: str,
    num_worker_threads: int,
    messages_to_fail: Sequence[str],
    messages_to_delay: Mapping[str, float],
    num_fail_sends: int,
    **kwargs: Any,
) -> FaultyTensorPipeRpcBackendOptions:
    """Options of FAULTY_TENSORPIPE. Arguments that it does not know are ignored."""
    return FaultyTensorPipeRpcBackendOptions(
        num_worker_threads=num_worker_threads,
        rpc_timeout=rpc_timeout,
        init_method=init_method,
        messages_to_fail=messages_to_fail,
        messages_to_delay=messages_to_delay,
        num_fail_sends=num_fail_sends,
    )


def _faulty_tensorpipe_init_backend_handler(
    store: Any,
    name: str,
    rank: int,
    world_size: Optional[int],
    rpc_backend_options: FaultyTensorPipeRpcBackendOptions,
) -> FaultyTensorPipeAgent:
    """An agent that has joined. No calls are made in joining, which could fail on purpose.

    Raises:
        TypeError: the store or the options are none.
        RuntimeError: the group did not come together. There is no current agent then.
    """
    backend_registry.check_store(store)
    backend_registry.check_options(rpc_backend_options, FaultyTensorPipeRpcBackendOptions)
    agent = FaultyTensorPipeAgent(store, name, rank, world_size, rpc_backend_options, {}, [])
    api._init_rpc_states(agent)
    return agent


backend_registry.register_backend(
    "FAULTY_TENSORPIPE",
    _faulty_tensorpipe_construct_rpc_backend_options_handler,
    _faulty_tensorpipe_init_backend_handler,
)
