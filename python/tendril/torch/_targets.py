# SPDX-License-Identifier: Apache-2.0
"""What is torch's among the targets of calls: operators, and TorchScript functions.

Both go by name, "aten::add" and "torchscript::__torch__.module.function", and are found and run by torch where they
are called. Their arguments are checked by the caller, so that a wrong one is raised at once.
"""

import functools
from typing import Any, Callable

import torch
from torch.jit import _builtins, _state

SCRIPT_PREFIX = "torchscript::"
SCRIPT_ASYNC_PREFIX = "torchscript_async::"
OPERATOR_PREFIX = "aten::"

_MARK = "_wrapped_async_rpc_function"


# ---- on the caller ----


def target_of(func: Any) -> Any:
    """The name of an operator or of a TorchScript function; otherwise `func` itself."""
    wrapped = getattr(func, _MARK, None)
    if isinstance(wrapped, torch.jit.ScriptFunction):
        return SCRIPT_ASYNC_PREFIX + torch._jit_internal._qualified_name(wrapped)
    name = _builtins._find_builtin(func)
    if name is not None:
        return name
    if isinstance(func, torch.jit.ScriptFunction):
        return SCRIPT_PREFIX + torch._jit_internal._qualified_name(func)
    return func


def profiled_name(target: str) -> str:
    """The name that profilers show."""
    for prefix in (SCRIPT_PREFIX, SCRIPT_ASYNC_PREFIX):
        if target.startswith(prefix):
            return target[len(prefix) :]
    return target


def check_call(target: Any, args: Any, kwargs: Any) -> None:
    """Raises what torch would raise for arguments that fit no schema of the target.

    Raises:
        RuntimeError: they fit none.
    """
    if not isinstance(target, str):
        return
    if target.startswith((SCRIPT_PREFIX, SCRIPT_ASYNC_PREFIX)):
        function = _state._python_cu.find_function(profiled_name(target))
        if function is not None and not _fits(function.schema, args, kwargs):
            function(*args, **kwargs)  # which says in torch's words what is wrong, and does not run
    elif target.startswith(OPERATOR_PREFIX):
        if not any(_fits(schema, args, kwargs) for schema in _schemas(target)):
            _operator(target)(*args, **kwargs)


def _fits(schema: Any, args: Any, kwargs: Any) -> bool:
    """Whether arguments have the number, the names and roughly the types that a schema wants."""
    left = dict(kwargs)
    position = 0
    for argument in schema.arguments:
        if position < len(args) and not argument.kwarg_only:
            value = args[position]
            position += 1
        elif argument.name in left:
            value = left.pop(argument.name)
        elif argument.has_default_value():
            continue
        else:
            return False
        if not _has_type(value, argument.type):
            return False
    return position == len(args) and not left


_TYPES = {
    "TensorType": torch.Tensor,
    "StringType": str,
    "ListType": (list, tuple, torch.Tensor, int, float),
}

_NOT_NUMBERS = (str, bytes, list, tuple, dict, torch.device, type(None))
_NUMBERS = {
    "BoolType": (),
    "IntType": (float, complex, *_NOT_NUMBERS),
    "FloatType": (complex, *_NOT_NUMBERS),
    "ComplexType": _NOT_NUMBERS,
    "NumberType": _NOT_NUMBERS,
}
"""The kinds of numbers, and what is none of that kind."""


def _has_type(value: Any, type_: Any) -> bool:
    """Whether a value may be an argument of that type. Errs on the side of yes: torch looks again where it is used."""
    kind = type_.kind()
    if kind in _NUMBERS:
        if isinstance(value, torch.Tensor):
            return value.numel() == 1
        too_long = kind in ("IntType", "NumberType") and isinstance(value, int) and not -(2**63) <= value < 2**63
        return not too_long and not isinstance(value, _NUMBERS[kind])
    if kind == "ListType" and type_.getElementType().kind() == "VarType":
        return False  # a list of anything: torch does not take such ones from Python
    expected = _TYPES.get(kind)
    return expected is None or isinstance(value, expected)


@functools.lru_cache(maxsize=None)
def _schemas(name: str) -> "tuple[Any, ...]":
    return tuple(torch._C._jit_get_schemas_for_operator(name))


# ---- on the callee ----


@functools.lru_cache(maxsize=None)
def _operator(name: str) -> Callable[..., Any]:
    """The operator of that name, which takes numbers for tensors where torch does.

    Raises:
        RuntimeError: torch has none.
    """
    operator = _first(torch._C._jit_get_operation(name))
    if operator is None:
        raise RuntimeError(f"torch has no operator {name}")
    return operator


@functools.lru_cache(maxsize=None)
def _overload(name: str, overload: str) -> Callable[..., Any]:
    return _first(torch._C._get_operation_overload(name, overload))


def _first(found: Any) -> Any:
    return found[0] if isinstance(found, tuple) else found


def _of_numbers(schema: Any) -> bool:
    return bool(schema.arguments) and all(argument.type.kind() in _NUMBERS for argument in schema.arguments)


@functools.lru_cache(maxsize=None)
def _dispatcher(name: str) -> Callable[..., Any]:
    """The operator as calls see it: its first schema that fits says what is run, so that of numbers numbers are made.

    Raises:
        RuntimeError: torch has none.
    """
    operator = _operator(name)
    schemas = _schemas(name)
    if not any(map(_of_numbers, schemas)):
        return operator

    def call(*args: Any, **kwargs: Any) -> Any:
        fitting = next((schema for schema in schemas if _fits(schema, args, kwargs)), None)
        if fitting is not None and _of_numbers(fitting):
            return _overload(name, fitting.overload_name)(*args, **kwargs)
        return operator(*args, **kwargs)

    return call


def _script(name: str) -> Callable[..., Any]:
    """The TorchScript function of that name.

    Raises:
        RuntimeError: nobody here has imported the module that defines it.
    """
    function = _state._python_cu.find_function(name)
    if function is None:
        raise RuntimeError(f"attempted to get undefined function {name}")
    return function


def _with_plain_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, raising RuntimeError where it raises an error that is TorchScript's own."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except torch.jit.Error as error:
            raise RuntimeError(str(error)) from error

    return call


def _check_future(result: Any) -> Any:
    if not isinstance(result, torch._C.Future):
        kind = "Tensor" if isinstance(result, torch.Tensor) else type(result).__name__
        raise RuntimeError(f"Async functions must return an IValue of Future type, but got {kind}")
    return result


def resolve(name: str) -> Callable[..., Any]:
    """What a caller means by a name.

    Raises:
        RuntimeError: there is no such operator or function.
    """
    if name.startswith(OPERATOR_PREFIX):
        return _dispatcher(name)
    if name.startswith(SCRIPT_PREFIX):
        return _with_plain_errors(_script(name[len(SCRIPT_PREFIX) :]))
    function = _script(name[len(SCRIPT_ASYNC_PREFIX) :])

    def call(*args: Any, **kwargs: Any) -> Any:
        return _check_future(function(*args, **kwargs))

    setattr(call, _MARK, function)
    return call


def prepare_agent(native: Any) -> None:
    """Has an agent serve what is torch's."""
    for prefix in (OPERATOR_PREFIX, SCRIPT_PREFIX, SCRIPT_ASYNC_PREFIX):
        native.register_names(prefix[:-2], resolve)
