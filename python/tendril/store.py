# SPDX-License-Identifier: Apache-2.0
"""Stores: the small shared tables through which the members of a group meet.

Keys are strings; values are given as str or bytes, and come back as bytes. Any thread may use a store, and waits let
other threads run.

- `HashStore`: in this process' memory, for its threads;
- `FileStore`: in a file that processes share;
- `TCPStore`: kept by a server, which one of the clients can host;
- `PrefixStore`: another store, with something before each key;
- `Store`: what they have in common, and what a kind of one's own is derived from.

Where a store is asked for, stores of `torch.distributed` will do as well, and so will any object that has the methods
of `Store`. Files and servers can be shared with PyTorch's `FileStore` and `TCPStore`.
"""

from tendril._C import FileStore, HashStore, PrefixStore, Store, TCPStore

__all__ = ["FileStore", "HashStore", "PrefixStore", "Store", "TCPStore"]
