# SPDX-License-Identifier: Apache-2.0
"""What install() puts in the places of tendril.rpc's hooks."""

import datetime
import os
import sys
from typing import Any

import torch
from torch import distributed

from tendril import _C, rpc
from tendril.rpc import _hooks, server_process_global_profiler
from tendril.rpc.operations import Operation

from . import _autograd, _futures, _profiler, _targets


def _target_of(func: Any) -> Any:
    return str(func) if type(func) is Operation else _targets.target_of(func)


def _check_call(target: Any, args: Any, kwargs: Any) -> None:
    _autograd.check_gradients(args, kwargs)
    _targets.check_call(target, args, kwargs)


def _type_is_opaque(kind: type) -> bool:
    return issubclass(kind, torch.jit.ScriptModule)


def _check_referent(value: Any, type_hint: Any) -> None:
    is_script_module = isinstance(value, torch.jit.ScriptModule)
    if type_hint is None and is_script_module:
        raise RuntimeError(
            "The RRef being created contains a ScriptModule, must provide its ModuleInterface type hint."
        )
    if type_hint is not None and not is_script_module:
        raise RuntimeError("type_hint should only be specified when the RRef being created contains a ScriptModule.")


def _store_types() -> "tuple[type, ...]":
    try:
        from tendril.store import Store
    except ImportError:
        return (distributed.Store,)
    return (distributed.Store, Store)


def _rendezvous(url: str, rank: int, world_size: int) -> Any:
    return distributed.rendezvous(url, rank=rank, world_size=world_size)


def _create_store(options: Any, rank: int) -> Any:
    return distributed._create_store_from_options(options, rank)


def _prefix_store(prefix: str, store: Any) -> Any:
    if isinstance(store, distributed.Store):
        return distributed.PrefixStore(prefix, store)
    from tendril.store import PrefixStore

    return PrefixStore(prefix, store)


def _process_group(store: Any, rank: int, world_size: int, timeout: datetime.timedelta) -> Any:
    return distributed.ProcessGroupGloo(store, rank, world_size, timeout)


def _gather_in_group(group: Any, mine: Any) -> "list[Any]":
    gathered = [None] * group.size()
    distributed.all_gather_object(gathered, mine, group)
    return gathered


def _spare_hosted_store() -> None:
    """Has torch's rank 0 not run a server where `tendril run` does: also for `init_process_group`."""
    module = sys.modules["torch.distributed.rendezvous"]  # the package has a function of that name
    create: Any = getattr(module, "_create_c10d_store", None)
    if create is None:
        return

    def create_c10d_store(host: str, port: int, rank: int, *args: Any, **kwargs: Any) -> Any:
        client_only = os.environ.get("TENDRIL_STORE_HOSTED") == "1"
        return create(host, port, -1 if client_only else rank, *args, **kwargs)

    module._create_c10d_store = create_c10d_store  # type: ignore[attr-defined]


def install() -> None:
    """Sets all of them."""
    _hooks.install(
        target_of=_target_of,
        profiled_name=_targets.profiled_name,
        check_call=_check_call,
        prepare_agent=_targets.prepare_agent,
        should_profile=_profiler.should_profile,
        record_function=_profiler.record_function,
        set_profiler_node_id=_profiler.set_profiler_node_id,
        new_future=_futures.new_future,
        wait_all=_futures.wait_all,
        type_is_opaque=_type_is_opaque,
        check_referent=_check_referent,
        store_types=_store_types,
        rendezvous=_rendezvous,
        create_store=_create_store,
        prefix_store=_prefix_store,
        process_group=_process_group,
        gather_in_group=_gather_in_group,
        backward=_autograd.backward,
    )
    module: Any
    for module in (rpc, server_process_global_profiler):
        module._enable_server_process_global_profiler = _profiler.enable_server_profiler
        module._disable_server_process_global_profiler = _profiler.disable_server_profiler
        module._server_process_global_profile = _profiler._server_process_global_profile
    _spare_hosted_store()
    _C.set_future_factory(_futures.Future)
    torch.futures.collect_all = _futures.collect_all
    torch.futures.wait_all = _futures.wait_all
