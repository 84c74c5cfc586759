# SPDX-License-Identifier: Apache-2.0
"""Agents that fail or delay messages on purpose, and their options."""

from collections.abc import Mapping, Sequence
from typing import Union

from tendril.rpc.agent import TensorPipeAgent
from tendril.rpc.options import _TensorPipeRpcBackendOptionsBase

MESSAGE_TYPES = (
    "SCRIPT_CALL",
    "PYTHON_CALL",
    "SCRIPT_REMOTE_CALL",
    "PYTHON_REMOTE_CALL",
    "SCRIPT_RREF_FETCH_CALL",
    "PYTHON_RREF_FETCH_CALL",
    "RREF_FORK_REQUEST",
    "RREF_CHILD_ACCEPT",
    "RREF_USER_DELETE",
    "CLEANUP_AUTOGRAD_CONTEXT_REQ",
)
"""The types of messages that can be failed and delayed."""


class FaultyTensorPipeRpcBackendOptions(_TensorPipeRpcBackendOptionsBase):
    """Options of the backend FAULTY_TENSORPIPE.

    Args:
        num_worker_threads: how many functions run at once.
        rpc_timeout: how long a call may take by default, in seconds; 0 for any time.
        init_method: a URL that says where members meet.
        messages_to_fail: types of messages that fail.
        messages_to_delay: types of messages that are held back, and for how many seconds.
        num_fail_sends: how often each message of those types fails before it is sent.

    Raises:
        RuntimeError: there is no such type of message, or a number is negative.
    """

    def __init__(
        self,
        num_worker_threads: int,
        rpc_timeout: float,
        init_method: str,
        messages_to_fail: Sequence[str],
        messages_to_delay: Mapping[str, float],
        num_fail_sends: int,
    ) -> None:
        super().__init__(num_worker_threads, None, None, rpc_timeout, init_method)
        if num_fail_sends < 0:
            raise RuntimeError("numFailSends should be non-negative")
        for name in [*messages_to_fail, *messages_to_delay]:
            if name not in MESSAGE_TYPES:
                raise RuntimeError(f"No mapping to rpc::MessageType exists for {name}")
        if any(seconds < 0 for seconds in messages_to_delay.values()):
            raise RuntimeError("Delays passed to FaultyTensorPipeAgent must be non-negative.")
        self.messages_to_fail = messages_to_fail
        self.messages_to_delay = messages_to_delay
        self.num_fail_sends = num_fail_sends


class FaultyTensorPipeAgent(TensorPipeAgent):
    """An agent that fails or delays messages, as its options say. Arguments are those of `TensorPipeAgent`."""

    _backend = "FAULTY"
    _options: FaultyTensorPipeRpcBackendOptions

    def _native_options(self) -> dict[str, Union[str, int]]:
        delays = self._options.messages_to_delay
        return {
            **super()._native_options(),
            "fail_messages": ",".join(self._options.messages_to_fail),
            "fail_sends": self._options.num_fail_sends,
            "delay_messages": ",".join(f"{name}={seconds:g}" for name, seconds in delays.items()),
        }
