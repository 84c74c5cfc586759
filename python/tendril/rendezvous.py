# SPDX-License-Identifier: Apache-2.0
"""Where the members of a group meet: from a URL to a store, a rank and a size.

- `env://`: at MASTER_ADDR and MASTER_PORT, with RANK and WORLD_SIZE, as a launcher sets them;
- `tcp://host:port`: at a server that rank 0 runs;
- `file:///path`: in a file that all of them see.

Rank and size come from the arguments, or from the URL (`?rank=0&world_size=2`), or for `env://` from the environment.
"""

import datetime
import os
from collections.abc import Iterator
from typing import Any, Callable, Optional
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from tendril import store as stores

__all__ = ["DEFAULT_TIMEOUT", "register_rendezvous_handler", "rendezvous"]

Meeting = Iterator[tuple[Any, int, int]]

DEFAULT_TIMEOUT = datetime.timedelta(minutes=30)
"""How long a store waits for what others have not written yet."""

DYNAMIC = -1
"""The size of a group whose members come and go."""

_handlers: dict[str, Callable[..., Meeting]] = {}


def register_rendezvous_handler(scheme: str, handler: Callable[..., Meeting]) -> None:
    """Adds a kind of URL.

    Args:
        scheme: of the URLs.
        handler: called with such a URL, which has rank and size in its query, and with what else `rendezvous` was
            given; gives (store, rank, world_size) once.

    Raises:
        RuntimeError: the scheme is taken.
    """
    if scheme in _handlers:
        raise RuntimeError(f"Rendezvous handler for {scheme}:// already registered")
    _handlers[scheme] = handler


def rendezvous(url: str, rank: int = -1, world_size: int = -1, **kwargs: Any) -> Meeting:
    """Meets the others.

    Args:
        url: where.
        rank: this worker's; -1: from the URL or the environment.
        world_size: of the group; -1: likewise.
        kwargs: what the kind of URL takes besides: `timeout`, a timedelta.

    Returns:
        An iterator that gives (store, rank, world_size) once.

    Raises:
        RuntimeError: an argument has the wrong type, or nobody knows such URLs.
        ValueError: something is missing.
    """
    for name, value, kind, text in (
        ("url", url, str, "a string"),
        ("rank", rank, int, "an integer"),
        ("world_size", world_size, int, "an integer"),
    ):
        if not isinstance(value, kind):
            raise RuntimeError(f"`{name}` must be {text}. {type(value)}: {value}")
    said = {name: value for name, value in (("rank", rank), ("world_size", world_size)) if value != -1}
    return _dispatch(url, said, **kwargs)


def _create_store_from_options(backend_options: Any, rank: int) -> Any:
    """The store for a group whose members come and go. RANK and WORLD_SIZE in the environment come first."""
    world_size = DYNAMIC
    if urlsplit(backend_options.init_method).scheme == "env":
        rank = int(os.environ.get("RANK") or rank)
        world_size = int(os.environ.get("WORLD_SIZE") or DYNAMIC)
    said = {"world_size": world_size} if rank == -1 else {"rank": rank, "world_size": world_size}
    store, _, _ = next(_dispatch(backend_options.init_method, said))
    return store


def _dispatch(url: str, added: dict[str, int], **kwargs: Any) -> Meeting:
    """Adds to the URL's query, and hands it to who knows such URLs."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if added:
        assert (
            "rank" not in query and "world_size" not in query
        ), f"The url: {url} has node-specific arguments(rank, world_size) already."
        query.update({name: str(value) for name, value in added.items()})
    if parts.scheme not in _handlers:
        raise RuntimeError(f"No rendezvous handler for {parts.scheme}://")
    return _handlers[parts.scheme](urlunsplit(parts._replace(query=urlencode(query))), **kwargs)


def _error(scheme: str, text: str) -> ValueError:
    return ValueError(f"Error initializing torch.distributed using {scheme}:// rendezvous: {text}")


def _number(scheme: str, query: dict[str, str], name: str, words: str) -> int:
    if name not in query:
        raise _error(scheme, f"{words} parameter missing")
    return int(query[name])


def _once(scheme: str, store: Any, rank: int, world_size: int) -> Meeting:
    yield store, rank, world_size
    raise RuntimeError(f"Unable to perform re-rendezvous using {scheme}:// method")


def _by_file(url: str, **kwargs: Any) -> Meeting:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    path = parts.netloc + parts.path
    if not path:
        raise _error("file", "path missing")
    rank = _number("file", query, "rank", "rank")
    world_size = _number("file", query, "world_size", "world size")
    return _once("file", stores.FileStore(path, world_size), rank, world_size)


def _by_tcp(url: str, timeout: datetime.timedelta = DEFAULT_TIMEOUT, **kwargs: Any) -> Meeting:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if not parts.port:
        raise _error("tcp", "port number missing")
    rank = _number("tcp", query, "rank", "rank")
    world_size = _number("tcp", query, "world_size", "world size")
    store = _tcp_store(parts.hostname or "", parts.port, rank, world_size, timeout)
    return _once("tcp", store, rank, world_size)


def _by_env(url: str, timeout: datetime.timedelta = DEFAULT_TIMEOUT, **kwargs: Any) -> Meeting:
    query = dict(parse_qsl(urlsplit(url).query))

    def get(name: str) -> str:
        value = os.environ.get(name)
        if not value:
            raise _error("env", f"environment variable {name} expected, but not set")
        return value

    rank = int(query["rank"] if "rank" in query else get("RANK"))
    world_size = int(query["world_size"] if "world_size" in query else get("WORLD_SIZE"))
    store = _tcp_store(get("MASTER_ADDR"), int(get("MASTER_PORT")), rank, world_size, timeout)
    return _once("env", store, rank, world_size)


def _tcp_store(host: str, port: int, rank: int, world_size: int, timeout: datetime.timedelta) -> Any:
    """The store at an address. Rank 0 runs its server, unless the environment says that the launcher does."""
    if not 0 <= port < 2**16:
        raise ValueError(f"port must have value from 0 to 65535 but was {port}.")
    size: Optional[int] = world_size if world_size > 0 else None
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        client = stores.TCPStore(host, port, size, is_master=False, timeout=timeout)
        return stores.PrefixStore(f"/worker/attempt_{attempt}", client)
    hosts = rank == 0 and os.environ.get("TENDRIL_STORE_HOSTED") != "1"
    return stores.TCPStore(host, port, size, is_master=hosts, timeout=timeout, multi_tenant=True)


register_rendezvous_handler("file", _by_file)
register_rendezvous_handler("tcp", _by_tcp)
register_rendezvous_handler("env", _by_env)
