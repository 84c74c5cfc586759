# SPDX-License-Identifier: Apache-2.0
"""Stores of this package for code that wants a store of `torch.distributed`.

    table = tendril.store.TCPStore("head", 29500, 2, rank == 0)
    torch.distributed.init_process_group("gloo", store=TorchStore(table), rank=rank, world_size=2)

The other direction needs nothing: where this package asks for a store, one of torch's will do.
"""

import datetime
from typing import Any, Optional, Union

from torch.distributed import Store

__all__ = ["TorchStore", "as_torch_store"]


class TorchStore(Store):
    """A store of torch's that hands everything on to one of this package's.

    It has a timeout of its own, which is the other's at first. Torch's C++ code does not keep objects of Python's
    alive: hold on to this one for as long as torch uses it.

    Args:
        store: with the methods of `tendril.store.Store`.
    """

    def __init__(self, store: Any) -> None:
        super().__init__()
        self._store = store
        self.set_timeout(store.timeout)

    @property
    def underlying_store(self) -> Any:
        """The store that everything is handed on to."""
        return self._store

    def set(self, key: str, value: Union[str, bytes]) -> None:
        """Stores a value in place of what was there."""
        self._store.set(key, value)

    def get(self, key: str) -> bytes:
        """Waits until the key is there, and gives its value."""
        self._store.wait([key], self.timeout)
        return self._store.get(key)

    def add(self, key: str, amount: int) -> int:
        """Adds to a decimal number, 0 where there is none, and gives the sum."""
        return self._store.add(key, amount)

    def compare_set(self, key: str, expected: Any, desired: Any) -> bytes:
        """Stores `desired` where the value is `expected`, and gives the value afterwards."""
        if isinstance(expected, list):  # torch's C++ code gives bytes as numbers
            expected, desired = bytes(expected), bytes(desired)
        return self._store.compare_set(key, expected, desired)

    def wait(self, keys: "list[str]", timeout: Optional[datetime.timedelta] = None) -> None:
        """Waits until all keys are there."""
        self._store.wait(keys, self.timeout if timeout is None else timeout)

    def check(self, keys: "list[str]") -> bool:
        """Whether all keys are there now."""
        return self._store.check(keys)

    def delete_key(self, key: str) -> bool:
        """Deletes a key, and gives whether it was there."""
        return self._store.delete_key(key)

    def num_keys(self) -> int:
        """How many keys there are."""
        return self._store.num_keys()

    # What torch's C++ code looks for.
    deleteKey = delete_key  # noqa: N815
    getNumKeys = num_keys  # noqa: N815


def as_torch_store(store: Any) -> Store:
    """The store as one of torch's; itself where it is one."""
    return store if isinstance(store, Store) else TorchStore(store)
