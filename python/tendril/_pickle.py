# SPDX-License-Identifier: Apache-2.0
"""Picklers: protocol 5, with tensors, arrays, buffers and references beside the stream.

The extension module calls `_dumps` and `_loads` for what is not plain. `_internal_rpc_pickler` is the same under the
interface that programs written for PyTorch know. Neither torch nor numpy is imported here on its own account: what the
program has not imported, it cannot send.
"""

import copyreg
import io
import pickle
import sys
import threading
from collections import ChainMap
from typing import Any, Callable, Optional

from . import _C

__all__: list[str] = []

# Buffers of fewer bytes stay in the stream.
_BUFFER_MIN = 1024

# What a tensor beside the stream was; in step with enum pickled_kind in pickle.c.
_TENSOR, _ARRAY, _READONLY_ARRAY, _OWN = range(4)

# The letters of numpy's dtypes whose arrays are tensors.
_ARRAY_CHARS = frozenset("?bBhHiIlLqQefdFD")

_MISSING_CODE = (
    " Default RPC pickler does not serialize function code."
    " Ensure that UDFs are defined on both caller and callee modules."
)

Reducer = Callable[[Any], Any]


class _Tables(threading.local):
    """What is beside the stream that this thread reads."""

    def __init__(self) -> None:
        self.tensors: Any = ()
        self.refs: Any = ()


_tables = _Tables()


# ---- what streams name: these names stay ----


def _tensor_at(index: int) -> Any:
    """A tensor or array that came beside the stream."""
    return _tables.tensors[index]


def _ref_at(index: int) -> Any:
    """A reference that came beside the stream."""
    return _tables.refs[index]


def _memoryview_of(buffer: Any, form: str, shape: tuple[int, ...]) -> memoryview:
    view = memoryview(buffer)
    if 0 in shape:
        return view if (form, shape) == ("B", (0,)) else view.cast("B").cast(form)
    return view.cast("B").cast(form, shape)


def _array_of(typecode: str, buffer: Any) -> Any:
    import array

    return array.array(typecode, bytes(buffer))


def _sparse_coo(indices: Any, values: Any, size: tuple[int, ...], is_coalesced: bool, requires_grad: bool) -> Any:
    import torch

    tensor = torch._sparse_coo_tensor_unsafe(indices, values, size)
    tensor._coalesced_(is_coalesced)
    return tensor.requires_grad_() if requires_grad else tensor


def _sparse_compressed(
    layout: Any, compressed: Any, plain: Any, values: Any, size: tuple[int, ...], requires_grad: bool
) -> Any:
    import torch

    tensor = torch._sparse_compressed_tensor_unsafe(compressed, plain, values, size, layout=layout)
    return tensor.requires_grad_() if requires_grad else tensor


def _quantized(numbers: Any, dtype: Any, scheme: str, scale: Any, zero_point: Any, axis: int) -> Any:
    import torch

    if scheme == "tensor":
        tensor = torch._empty_affine_quantized((0,), scale=scale, zero_point=zero_point, dtype=dtype)
    else:
        tensor = torch._empty_per_channel_affine_quantized(
            numbers.size(), scales=scale, zero_points=zero_point, axis=axis, dtype=dtype
        )
    return tensor.set_(_storage_of(numbers), numbers.storage_offset(), numbers.size(), numbers.stride())


def _complex_half(parts: Any, requires_grad: bool) -> Any:
    import torch

    tensor = torch.view_as_complex(parts)
    return tensor.requires_grad_() if requires_grad else tensor


def _untyped_storage(content: Any) -> Any:
    return _storage_of(content)


def _typed_storage(content: Any, dtype: Any) -> Any:
    import torch

    storage = _storage_of(content)
    if hasattr(torch.Tensor, "untyped_storage"):
        return torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)
    return torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype)


# ---- torch ----


def _storage_of(tensor: Any) -> Any:
    """The tensor's storage of bytes, whatever this version of torch calls it."""
    return tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else tensor._storage()


def _content(storage: Any) -> Any:
    """A tensor of all bytes of a storage of bytes."""
    import torch

    if storage.device.type != "cpu":
        raise RuntimeError(f"a storage on {storage.device} cannot be sent: move it to the CPU first")
    return torch.empty((0,), dtype=torch.uint8).set_(storage)


def _reduce_untyped_storage(storage: Any) -> Any:
    return _untyped_storage, (_content(storage),)


def _reduce_typed_storage(storage: Any) -> Any:
    untyped = storage._untyped_storage if hasattr(storage, "_untyped_storage") else storage.untyped()
    return _typed_storage, (_content(untyped), storage.dtype)


def _reduce_sparse(tensor: Any) -> Any:
    """A sparse tensor as the dense ones it is made of; None: it is of a layout of its own."""
    import torch

    size, plain, layout = tuple(tensor.size()), tensor.detach(), tensor.layout
    if layout is torch.sparse_coo:
        return _sparse_coo, (plain._indices(), plain._values(), size, tensor.is_coalesced(), tensor.requires_grad)
    if layout in (torch.sparse_csr, getattr(torch, "sparse_bsr", None)):
        parts = plain.crow_indices(), plain.col_indices()
    elif layout in (getattr(torch, "sparse_csc", None), getattr(torch, "sparse_bsc", None)):
        parts = plain.ccol_indices(), plain.row_indices()
    else:
        return None
    return _sparse_compressed, (layout, *parts, plain.values(), size, tensor.requires_grad)


def _reduce_quantized(tensor: Any) -> Any:
    """A quantized tensor as its integers, of the same memory; None: it is of a kind that torch itself has to pickle."""
    import torch

    dtype = {torch.qint8: torch.int8, torch.quint8: torch.uint8, torch.qint32: torch.int32}.get(tensor.dtype)
    scheme = tensor.qscheme()
    if dtype is None:
        return None
    numbers = torch.empty((0,), dtype=dtype).set_(
        _storage_of(tensor), tensor.storage_offset(), tensor.size(), tensor.stride()
    )
    if scheme is torch.per_tensor_affine:
        return _quantized, (numbers, tensor.dtype, "tensor", tensor.q_scale(), tensor.q_zero_point(), 0)
    if scheme in (torch.per_channel_affine, torch.per_channel_affine_float_qparams):
        scales, zero_points = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
        return _quantized, (numbers, tensor.dtype, "channel", scales, zero_points, tensor.q_per_channel_axis())
    return None


def _loaded(name: str, attribute: str) -> Any:
    """A module that the program has imported, as far as to have `attribute`; None otherwise."""
    module = sys.modules.get(name)
    return module if hasattr(module, attribute) else None


# ---- other buffers ----


def _reduce_memoryview(view: memoryview) -> Any:
    whole = view if view.c_contiguous else view.tobytes()
    return _memoryview_of, (pickle.PickleBuffer(whole), view.format, view.shape)


def _reduce_array_array(array: Any) -> Any:
    # Copied, since an array whose memory somebody looks at can neither grow nor shrink.
    return _array_of, (array.typecode, pickle.PickleBuffer(array.tobytes()))


# ---- writing ----


class _Session:
    """One object being pickled, with what goes beside its stream."""

    def __init__(self, reduce_ref: Optional[Reducer] = None) -> None:
        self.tensors: list[Any] = []
        self.kinds = bytearray()
        self.refs: list[Any] = []
        self.buffers: list[pickle.PickleBuffer] = []
        # With a reducer of the caller's for references, tensors alone go beside the stream.
        self._reduce_ref = reduce_ref

    def _add(self, tensor: Any, kind: int) -> Any:
        self.tensors.append(tensor)
        self.kinds.append(kind)
        return _tensor_at, (len(self.tensors) - 1,)

    def reduce_tensor(self, tensor: Any) -> Any:
        import torch

        if tensor.layout is not torch.strided:
            reduced = _reduce_sparse(tensor)
        elif tensor.is_quantized:
            reduced = _reduce_quantized(tensor)
        elif tensor.is_meta:
            reduced = None
        elif tensor.dtype is torch.complex32:
            reduced = _complex_half, (torch.view_as_real(tensor.detach().resolve_conj()), tensor.requires_grad)
        else:
            return self._add(tensor, _TENSOR)
        return tensor.__reduce_ex__(5) if reduced is None else reduced

    def reduce_array(self, array: Any) -> Any:
        if array.dtype.char in _ARRAY_CHARS and array.dtype.isnative and array.dtype.metadata is None:
            return self._add(array, _ARRAY if array.flags.writeable else _READONLY_ARRAY)
        return array.__reduce_ex__(5)

    def reduce_own(self, tensor: Any) -> Any:
        return self._add(tensor, _OWN)

    def reduce_ref(self, ref: Any) -> Any:
        if self._reduce_ref is not None:
            return self._reduce_ref(ref)
        self.refs.append(ref)
        return _ref_at, (len(self.refs) - 1,)

    def keep_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """Whether pickle is to put the buffer into the stream."""
        with buffer.raw() as raw:
            small = raw.nbytes < _BUFFER_MIN
        if not small:
            self.buffers.append(buffer)
        return small

    def reduce_foreign(self, obj: Any) -> Any:
        """An object that pickle itself refuses, but that speaks DLPack."""
        if isinstance(obj, type) or not hasattr(type(obj), "__dlpack__"):
            return NotImplemented
        torch, numpy = _loaded("torch", "Tensor"), _loaded("numpy", "ndarray")
        if (torch and isinstance(obj, torch.Tensor)) or (numpy and isinstance(obj, numpy.ndarray)):
            return NotImplemented
        return self._add(obj, _TENSOR)

    def table(self) -> dict[Any, Reducer]:
        """The reducers of all types that are not pickled as pickle does by itself."""
        table: dict[Any, Reducer] = copyreg.dispatch_table.copy()
        table[memoryview] = _reduce_memoryview
        for cls in _subclasses(_C.PyRRef):
            table[cls] = self.reduce_ref
        array = sys.modules.get("array")
        if array is not None:
            table[array.array] = _reduce_array_array
        torch = _loaded("torch", "storage")
        if torch is not None:
            table[torch.Tensor] = self.reduce_tensor
            table[torch.storage.UntypedStorage] = _reduce_untyped_storage
            table[torch.storage.TypedStorage] = _reduce_typed_storage
        if self._reduce_ref is None:
            table[_C.Tensor] = self.reduce_own
            numpy = _loaded("numpy", "ndarray")
            if numpy is not None:
                table[numpy.ndarray] = self.reduce_array
        return table

    def dump(self, obj: Any, table: dict[Any, Reducer]) -> bytes:
        file = io.BytesIO()
        # The peer's interface has no place for buffers, so they stay in the stream.
        keep = self.keep_buffer if self._reduce_ref is None else None
        pickler = pickle.Pickler(file, 5, buffer_callback=keep)
        pickler.dispatch_table = table
        pickler.dump(obj)
        return file.getvalue()

    def dump_harder(self, obj: Any, table: dict[Any, Reducer]) -> bytes:
        """Pickles what `dump` could not: code, where cloudpickle is there, and tensors of unknown libraries."""
        file = io.BytesIO()
        keep = self.keep_buffer if self._reduce_ref is None else None
        _harder_pickler()(file, self, table, keep).dump(obj)
        return file.getvalue()


def _subclasses(cls: type) -> list[type]:
    found = [cls]
    for each in found:
        found.extend(each.__subclasses__())
    return found


_harder_class: Any = None


def _harder_pickler() -> Any:
    """The pickler of `dump_harder`: cloudpickle's, where it is installed."""
    global _harder_class
    if _harder_class is not None:
        return _harder_class
    try:
        from cloudpickle import CloudPickler as Base
    except ImportError:
        Base = pickle.Pickler

    class HarderPickler(Base):
        """A pickler that asks the session about what others refuse."""

        def __init__(self, file: Any, session: _Session, table: dict[Any, Reducer], keep: Any) -> None:
            self._session = session
            # Looked up by pickle's own __init__, and so it has to be there before.
            self._table = ChainMap(table, getattr(Base, "dispatch_table", {})) if Base is not pickle.Pickler else table
            super().__init__(file, 5, buffer_callback=keep)

        @property
        def dispatch_table(self) -> Any:
            return self._table

        def reducer_override(self, obj: Any) -> Any:
            reduced = NotImplemented
            if type(obj) not in self._table:
                reduced = self._session.reduce_foreign(obj)
            if reduced is NotImplemented and Base is not pickle.Pickler:
                reduced = super().reducer_override(obj)
            return reduced

    _harder_class = HarderPickler
    return HarderPickler


def _dump(obj: Any, extra: dict[Any, Reducer], reduce_ref: Optional[Reducer] = None) -> tuple[bytes, _Session]:
    """Pickles `obj` with the reducers of `extra` before all others."""
    session = _Session(reduce_ref)
    table = session.table()
    table.update(extra)
    try:
        return session.dump(obj, table), session
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        first = error
    session = _Session(reduce_ref)
    table = session.table()
    table.update(extra)
    try:
        return session.dump_harder(obj, table), session
    except Exception:
        # What was wrong in the first place tells more.
        raise first from None


def _dumps(obj: Any) -> tuple[bytes, list[Any], bytes, list[Any], list[Any]]:
    """Pickles for the extension: the stream, the tensors and arrays and their kinds, the buffers, the references."""
    stream, session = _dump(obj, _internal_rpc_pickler._reducers_for(obj))
    return stream, session.tensors, bytes(session.kinds), session.buffers, session.refs


def _loads(stream: Any, tensors: list[Any], buffers: list[Any], refs: list[Any]) -> Any:
    """The reverse.

    Raises:
        AttributeError: a function or class is missing here; the text says what to do.
    """
    before = _tables.tensors, _tables.refs
    _tables.tensors, _tables.refs = tensors, refs
    try:
        return pickle.loads(stream, buffers=buffers)
    except AttributeError as error:
        raise AttributeError(str(error) + _MISSING_CODE) from error
    finally:
        _tables.tensors, _tables.refs = before


# ---- the interface that PyTorch's programs know ----


class _InternalRPCPickler:
    """Pickles an object into bytes and the tensors that go beside them.

    Programs may derive picklers of their own from it, for `_use_rpc_pickler`.
    """

    def __init__(self) -> None:
        self._class_reducer_dict: dict[type, Reducer] = {}

    def _register_reducer(self, obj_class: type, reducer: Reducer) -> None:
        """Has objects of exactly `obj_class` reduced by `reducer`; the first one registered stays."""
        self._class_reducer_dict.setdefault(obj_class, reducer)

    def _reducers_for(self, obj: Any) -> dict[Any, Reducer]:
        """The reducers that were registered, and the one for `obj` itself where it is a ScriptModule."""
        torch = _loaded("torch", "jit")
        if torch is None or not isinstance(obj, torch.jit.ScriptModule):
            return self._class_reducer_dict
        return {type(obj): self._script_module_reducer, **self._class_reducer_dict}

    @classmethod
    def _tensor_receiver(cls, tensor_index: int) -> Any:
        return _tensor_at(tensor_index)

    @classmethod
    def _py_rref_receiver(cls, rref_fork_data: Any) -> Any:
        return _C.PyRRef._deserialize(rref_fork_data)

    def _py_rref_reducer(self, py_rref: Any) -> Any:
        return _InternalRPCPickler._py_rref_receiver, (py_rref._serialize(),)

    def _rref_reducer(self, rref: Any) -> Any:
        return self._py_rref_reducer(rref)

    @classmethod
    def _script_module_receiver(cls, script_module_serialized: bytes) -> Any:
        import torch

        return torch.jit.load(io.BytesIO(script_module_serialized))

    def _script_module_reducer(self, script_module: Any) -> Any:
        import torch

        file = io.BytesIO()
        torch.jit.save(script_module, file)
        return _InternalRPCPickler._script_module_receiver, (file.getvalue(),)

    def serialize(self, obj: Any) -> tuple[bytes, list[Any]]:
        """Pickles `obj`: bytes, and the tensors that go beside them. References are forked."""
        forks: dict[int, Any] = {}

        def reduce_ref(ref: Any) -> Any:
            # Once for each reference, also where pickling is tried twice: each fork has to be read once.
            if id(ref) not in forks:
                forks[id(ref)] = self._rref_reducer(ref)
            return forks[id(ref)]

        stream, session = _dump(obj, self._reducers_for(obj), reduce_ref)
        return stream, session.tensors

    def deserialize(self, binary_data: Any, tensor_table: Any) -> Any:
        """The reverse of `serialize`.

        Returns:
            The object; where a function or class is missing here, an AttributeError that says so.
        """
        try:
            return _loads(binary_data, tensor_table, [], [])
        except AttributeError as error:
            return AttributeError(str(error))


_internal_rpc_pickler = _InternalRPCPickler()
