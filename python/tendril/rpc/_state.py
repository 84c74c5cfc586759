# SPDX-License-Identifier: Apache-2.0
"""The agent that calls of this process go through, and what concerns it alone.

There is at most one at a time. `init_rpc` sets it and `shutdown` resets it.
"""

import datetime
import threading
from typing import Any, Optional, Union

from tendril import _C

from .agent import RpcAgent

_NOT_SET = (
    "Current RPC agent is not set! Did you initialize the RPC framework (e.g. by calling `rpc.init_rpc`)?"
)

_lock = threading.Lock()
_agent: Optional[RpcAgent] = None

LET_GO_TIMEOUT = datetime.timedelta(seconds=100)
"""How long `_delete_all_user_and_unforked_owner_rrefs` waits."""


def _is_current_rpc_agent_set() -> bool:
    """Whether there is a current agent."""
    return _agent is not None


def _get_current_rpc_agent() -> Any:
    """The current agent.

    Raises:
        RuntimeError: there is none.
    """
    agent = _agent
    if agent is None:
        raise RuntimeError(_NOT_SET)
    return agent


def _set_and_start_rpc_agent(agent: Any) -> None:
    """Makes `agent` the current one and has it join its group; where it cannot, there is no current agent again.

    Raises:
        RuntimeError: there is one already; or whatever joining fails with.
    """
    global _agent
    with _lock:
        if _agent is not None:
            raise RuntimeError(f"Current RPC agent is set! It is {_agent!r}; shut it down first")
        _agent = agent
    native = getattr(agent, "_native", None)
    try:
        if native is not None:
            # Before it joins: functions that others call may make calls themselves.
            _C.set_current_agent(native)
            agent._start()
    except BaseException:
        _reset_current_rpc_agent()
        raise


def _reset_current_rpc_agent() -> None:
    """Leaves this process without a current agent.

    Raises:
        RuntimeError: there is none.
    """
    global _agent
    with _lock:
        if _agent is None:
            raise RuntimeError(_NOT_SET)
        _agent = None
        _C.reset_current_agent()


def get_rpc_timeout() -> float:
    """How long a call that names no timeout may take, in seconds.

    Raises:
        RuntimeError: there is no current agent.
    """
    return _get_current_rpc_agent()._native.rpc_timeout


def _set_rpc_timeout(seconds: float) -> None:
    """Changes the default timeout, of calls made from now on.

    Raises:
        RuntimeError: there is no current agent.
    """
    _get_current_rpc_agent()._native.rpc_timeout = seconds


def enable_gil_profiling(flag: bool) -> None:
    """Whether to measure how long served functions wait for the interpreter; see `get_debug_info` of the agent.

    Raises:
        RuntimeError: there is no current agent.
    """
    _get_current_rpc_agent()
    _C.enable_gil_profiling(bool(flag))


def _rref_context_get_debug_info() -> dict[str, str]:
    """Counters of remote references: `num_owner_rrefs`, `num_forks`, `num_pending_users`, `num_pending_futures`.

    Raises:
        RuntimeError: there is no current agent.
    """
    return _get_current_rpc_agent()._rref_debug_info()


def _delete_all_user_and_unforked_owner_rrefs(
    timeout: Union[datetime.timedelta, float] = LET_GO_TIMEOUT,
) -> None:
    """Lets go of all references of others held here, and waits until others have let go of those owned here.

    Handles stay, and using them is an error. What does not end in time is logged, never raised.

    Args:
        timeout: how long to wait.

    Raises:
        RuntimeError: there is no current agent.
    """
    seconds = timeout.total_seconds() if isinstance(timeout, datetime.timedelta) else float(timeout)
    _get_current_rpc_agent()._let_go_of_rrefs(seconds)


def _destroy_rref_context(ignore_rref_leak: bool) -> None:
    """Ends remote references: looks for those that others still hold.

    Args:
        ignore_rref_leak: only warn of them.

    Raises:
        RuntimeError: others hold references owned here ("Leaking RRef ..."), or there is no current agent.
    """
    _get_current_rpc_agent()._check_rref_leaks(ignore_rref_leak)


def _cleanup_python_rpc_handler() -> None:
    """Forgets the Python functions that were looked up for callers."""
    _C.forget_functions()
