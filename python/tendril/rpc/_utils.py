# SPDX-License-Identifier: Apache-2.0
"""Groups whose members come and go. Agents keep membership themselves; these are pieces for those who add to it."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import _state

logger = logging.getLogger(__name__)

_TOKEN_KEY = "RpcGroupManagementToken"


@contextlib.contextmanager
def _group_membership_management(store: Any, name: str, is_join: bool) -> Iterator[None]:
    """A section that one worker of a group at a time is in.

    Args:
        store: that the workers share.
        name: this worker's.
        is_join: whether it is joining, or leaving.

    Raises:
        RuntimeError: another worker did not come out in the time that the store waits.
    """
    mine = f"Token_for_{name}_{'join' if is_join else 'leave'}"
    while True:
        holder = _text(store.compare_set(_TOKEN_KEY, "", mine))
        if holder == mine:
            break
        try:
            store.wait([holder])
        except RuntimeError:
            logger.error("Group membership token %s timed out waiting for %s to be released.", mine, holder)
            raise
    try:
        yield
    finally:
        store.set(_TOKEN_KEY, "")
        store.set(mine, "Done")


def _update_group_membership(
    worker_info: Any, my_devices: Sequence[Any], reverse_device_map: Mapping[str, Mapping[Any, Any]], is_join: bool
) -> None:
    """Returns when this worker knows that another one has joined, or left.

    Raises:
        RuntimeError: it does not in the time that a call may take.
    """
    _state._get_current_rpc_agent()._update_group_membership(worker_info, my_devices, reverse_device_map, is_join)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else value
