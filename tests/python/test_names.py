# SPDX-License-Identifier: Apache-2.0
"""The names that programs written for torch.distributed.rpc use, public and private: all are in the same places."""

import importlib
import inspect

import pytest

NAMES = {
    "tendril.rpc": """
        is_available init_rpc shutdown get_worker_info rpc_sync rpc_async remote get_rpc_timeout _set_rpc_timeout
        enable_gil_profiling AllGatherStates method_factory new_method RRef PyRRef WorkerInfo RpcBackendOptions
        TensorPipeRpcBackendOptions _TensorPipeRpcBackendOptionsBase RpcAgent TensorPipeAgent RemoteProfilerManager
        BackendType BackendValue backend_registered register_backend construct_rpc_backend_options init_backend
        _DEFAULT_INIT_METHOD _DEFAULT_NUM_WORKER_THREADS _UNSET_RPC_TIMEOUT _DEFAULT_RPC_TIMEOUT_SEC
        _is_current_rpc_agent_set _get_current_rpc_agent _set_and_start_rpc_agent _reset_current_rpc_agent
        _delete_all_user_and_unforked_owner_rrefs _destroy_rref_context _rref_context_get_debug_info
        _cleanup_python_rpc_handler _invoke_rpc_builtin _invoke_rpc_python_udf _invoke_rpc_torchscript
        _invoke_remote_builtin _invoke_remote_python_udf _invoke_remote_torchscript _set_profiler_node_id
        _enable_server_process_global_profiler _disable_server_process_global_profiler _server_process_global_profile
        _enable_jit_rref_pickle _disable_jit_rref_pickle _init_rpc_backend _validate_rpc_args _get_debug_info
        _init_counter api backend_registry constants functions internal options server_process_global_profiler _utils
    """,
    "tendril.rpc.api": """
        shutdown get_worker_info remote rpc_sync rpc_async RRef AllGatherStates method_factory new_method
        _ignore_rref_leak _default_pickler _use_rpc_pickler _require_initialized _thread_local_var _wait_all
        _ALL_WORKER_NAMES _init_rpc_states _get_current_rpc_agent _is_current_rpc_agent_set _reset_current_rpc_agent
        _set_and_start_rpc_agent _all_gather _barrier _wait_all_workers _gather_to_leader _broadcast_to_followers
        _all_gather_dict_lock _all_gather_sequence_id _all_gather_sequence_id_to_states
        _delete_all_user_and_unforked_owner_rrefs _destroy_rref_context _finalize_shutdown _rref_typeof_on_owner
        _rref_typeof_on_user _to_worker_info _invoke_rpc _get_should_profile _enable_rpc_profiler
    """,
    "tendril.rpc.internal": """
        PythonUDF RemoteException RPCExecMode _internal_rpc_pickler serialize deserialize _run_function
        _handle_exception _build_rpc_profiling_key _start_record_function
    """,
    "tendril.rpc.rref_proxy": "RRefProxy _invoke_rpc _local_invoke _local_invoke_async_execution",
    "tendril.rpc.functions": "async_execution",
    "tendril.rpc.options": "TensorPipeRpcBackendOptions",
    "tendril.rpc.constants": """
        DEFAULT_RPC_TIMEOUT_SEC DEFAULT_INIT_METHOD DEFAULT_SHUTDOWN_TIMEOUT DEFAULT_NUM_WORKER_THREADS
        DEFAULT_PROCESS_GROUP_TIMEOUT UNSET_RPC_TIMEOUT
    """,
    "tendril.rpc._utils": "_group_membership_management _update_group_membership",
    "tendril.rpc.backend_registry": """
        BackendType BackendValue backend_registered register_backend construct_rpc_backend_options init_backend
        _init_process_group _tensorpipe_construct_rpc_backend_options_handler _tensorpipe_init_backend_handler
        _tensorpipe_validate_devices _tensorpipe_exchange_and_check_all_device_maps _validate_device_maps
        _create_reverse_mapping _create_device_list _get_device_infos _set_devices_and_reverse_device_map
    """,
    "tendril.rpc.server_process_global_profiler": "_server_process_global_profile",
    "tendril.rpc._testing": "is_available",
    "tendril.autograd": """
        context backward get_gradients is_available DistAutogradContext _init _new_context _release_context
        _get_max_id _is_valid_context _retrieve_context _current_context _get_debug_info
    """,
    "tendril.futures": "Future collect_all wait_all",
    "tendril.store": "Store HashStore FileStore TCPStore PrefixStore",
}
"""Module by module."""

SIGNATURES = {
    "tendril.rpc": {
        "init_rpc": "(name, backend=None, rank=-1, world_size=None, rpc_backend_options=None)",
        "shutdown": "(graceful=True, timeout=0)",
        "get_worker_info": "(worker_name=None)",
        "rpc_sync": "(to, func, args=None, kwargs=None, timeout=-1.0)",
        "rpc_async": "(to, func, args=None, kwargs=None, timeout=-1.0)",
        "remote": "(to, func, args=None, kwargs=None, timeout=-1.0)",
        "register_backend": "(backend_name, construct_rpc_backend_options_handler, init_backend_handler)",
    },
    "tendril.rpc.api": {
        "_all_gather": "(obj, worker_names=None, timeout=-1.0)",
        "_barrier": "(worker_names)",
        "_wait_all_workers": "(timeout=0)",
        "_gather_to_leader": "(sequence_id, worker_name, obj, worker_names=None)",
        "_broadcast_to_followers": "(sequence_id, objects_map)",
    },
    "tendril.rpc.backend_registry": {
        "_init_process_group": "(store, rank, world_size)",
        "_tensorpipe_validate_devices": "(devices, device_count)",
        "_tensorpipe_exchange_and_check_all_device_maps": (
            "(my_name, my_device_count, my_device_maps, my_devices, group)"
        ),
        "_validate_device_maps": (
            "(all_names, all_device_counts, all_device_maps, all_devices, is_static_group=True)"
        ),
        "_create_reverse_mapping": "(my_name, all_names, all_device_maps)",
        "_create_device_list": "(my_devices, my_device_maps, reverse_device_maps)",
        "_get_device_infos": "()",
        "_set_devices_and_reverse_device_map": "(agent)",
    },
    "tendril.autograd": {"backward": "(context_id, roots, retain_graph=False)", "get_gradients": "(context_id)"},
}
"""How the functions are called that programs call most."""

METHODS = {
    "PyRRef": """
        is_owner confirmed_by_owner owner owner_name to_here local_value rpc_sync rpc_async remote backward _serialize
        _deserialize _get_type _get_future _get_profiling_future _set_profiling_future __getstate__ __setstate__
    """,
    "RpcAgent": """
        join sync shutdown get_worker_info get_worker_infos _get_device_map get_debug_info get_metrics
    """,
    "TensorPipeAgent": "_update_group_membership _get_backend_options is_static_group store",
    "TensorPipeRpcBackendOptions": "set_device_map set_devices _set_device_map",
}
"""What classes of `tendril.rpc` have."""

TORCH_ALONE = {
    "_InternalRPCPickler",  # a class with one instance, `_internal_rpc_pickler`
    "_backend_type_repr",
    "_to_device",
    "_to_device_list",
    "_to_device_map",
}
"""What modules of torch's define for their own use."""


@pytest.mark.parametrize("module", NAMES)
def test_names(module):
    there = dir(importlib.import_module(module))
    assert [name for name in NAMES[module].split() if name not in there] == []


@pytest.mark.parametrize("name", METHODS)
def test_methods(name):
    from tendril import rpc

    there = dir(getattr(rpc, name))
    assert [method for method in METHODS[name].split() if method not in there] == []


@pytest.mark.parametrize("module", [name for name in NAMES if name.startswith("tendril.rpc")])
def test_whatever_torch_defines_is_there(module):
    pytest.importorskip("torch")
    torch_name = module.replace("tendril.", "torch.distributed.")
    theirs = importlib.import_module(torch_name)
    if theirs.__name__ != torch_name:
        pytest.skip("tendril.torch is installed in this process")
    here = dir(importlib.import_module(module))
    defined = [name for name, value in vars(theirs).items() if getattr(value, "__module__", "") == torch_name]
    # The package has the names that are written in C++, too.
    if module == "tendril.rpc":
        native = importlib.import_module("torch._C._distributed_rpc")
        defined += [name for name in dir(native) if not name.startswith("__")]
    assert sorted(set(defined) - set(here) - TORCH_ALONE) == []


@pytest.mark.parametrize("module", SIGNATURES)
def test_signatures(module):
    functions = importlib.import_module(module)
    found = {}
    for name in SIGNATURES[module]:
        parameters = inspect.signature(getattr(functions, name)).parameters.values()
        bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
        found[name] = str(inspect.Signature(bare))
    assert found == SIGNATURES[module]


@pytest.mark.parametrize("module", [name for name in NAMES if hasattr(importlib.import_module(name), "__all__")])
def test_all(module):
    """What modules say that they have, they have, and with a docstring."""
    package = importlib.import_module(module)
    there = {name: getattr(package, name) for name in package.__all__}
    undocumented = [name for name, value in there.items() if callable(value) and not inspect.getdoc(value)]
    assert undocumented == []
