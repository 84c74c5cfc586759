#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the built-in operators with PyTorch's, case by case.

Usage: compare_torch.py DRIVER [NAME...]

DRIVER is operator_driver, which runs one operator a request (its own comment has the format). The cases come from a
fixed seed: all pairs of dtypes, shapes with zero, one and more dimensions, empty ones, views that are transposed,
expanded or stepped, plain numbers, and arguments that must be refused. Both sides must give the same dtype, shape and
elements (floating point within a tolerance, NaN for NaN), be a view of the same argument or of none, and leave the
same in every tensor they were given; or both refuse, and ours has written nothing. With NAMEs only those operators
run. Exits with 77, which means skipped, where there is no PyTorch.
"""

import itertools
import random
import struct
import subprocess
import sys
import warnings

try:
    import numpy as np
    import torch
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

BOOL, I64, F32, F64 = torch.bool, torch.int64, torch.float32, torch.float64
DTYPES = (BOOL, I64, F32, F64)
NUMBERS = {BOOL: 0, I64: 5, F32: 11, F64: 12}
SCALAR_TYPES = {BOOL: 11, I64: 4, F32: 6, F64: 7}
BY_NUMBER = {number: dtype for dtype, number in NUMBERS.items()}
TOLERANCE = {F32: 2e-5, F64: 1e-11}
STATUS_OK = 0
SHOWN = 10  # mismatches printed an operator

SHAPES = [(), (1,), (4,), (0,), (3, 4), (1, 4), (3, 1), (2, 3, 4), (2, 1, 4), (0, 4), (3, 0), (2, 0, 4), (1, 1, 1)]
SPECIAL = [0.0, -0.0, 1.0, -1.5, float("inf"), float("-inf"), float("nan")]


class Mismatch(Exception):
    """The two sides do not agree."""


class Driver:
    """The operators of this project, in a process of their own."""

    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(timeout=10)

    def read(self, size):
        data = self.process.stdout.read(size)
        if len(data) != size:
            raise Mismatch(f"the driver ended with {self.process.wait(timeout=10)}")
        return data

    def call(self, name, args, kwargs):
        """Returns (tensor or error text, index of the storage it views or None, storages' bytes before, and after)."""
        storages = []
        values = [self.encode(value, storages) for value in args]
        named = [text(key) + self.encode(value, storages) for key, value in kwargs.items()]
        blobs = [storage_bytes(storage) for storage in storages]
        request = [text(name), bytes([len(blobs)])]
        for blob in blobs:
            request += [struct.pack("<Q", len(blob)), blob]
        request += [bytes([len(values)]), *values, bytes([len(named)]), *named]
        self.process.stdin.write(b"".join(request))
        self.process.stdin.flush()
        status = self.read(1)[0]
        if status != STATUS_OK:
            result, viewed = self.read(self.read(1)[0]).decode(), None
        else:
            viewed, dtype, ndim = self.read(3)
            shape = struct.unpack(f"<{ndim}q", self.read(8 * ndim))
            result = tensor_of(BY_NUMBER[dtype], shape, self.read)
            viewed = None if viewed == 255 else viewed
        return result, viewed, blobs, [self.read(len(blob)) for blob in blobs]

    def encode(self, value, storages):
        if value is None:
            return b"N"
        if isinstance(value, bool):
            return b"B" + bytes([value])
        if isinstance(value, int):
            return b"I" + struct.pack("<q", value)
        if isinstance(value, float):
            return b"F" + struct.pack("<d", value)
        if isinstance(value, str):
            return b"S" + text(value)
        if isinstance(value, torch.dtype):
            return b"I" + struct.pack("<q", SCALAR_TYPES[value])
        if isinstance(value, (list, tuple)):
            return b"L" + bytes([len(value)]) + b"".join(self.encode(item, storages) for item in value)
        return self.encode_tensor(value, storages)

    @staticmethod
    def encode_tensor(tensor, storages):
        storage = tensor.storage()
        keys = [known.data_ptr() for known in storages]
        # Empty storages have no address to be known by.
        if storage.data_ptr() in keys and storage.data_ptr() != 0:
            index = keys.index(storage.data_ptr())
        else:
            index = len(storages)
            storages.append(storage)
        ndim = tensor.dim()
        # PyTorch lets a view without elements begin past its storage's end.
        offset = tensor.storage_offset() if tensor.numel() else 0
        head = struct.pack("<BBBq", index, NUMBERS[tensor.dtype], ndim, offset)
        return b"T" + head + struct.pack(f"<{2 * ndim}q", *tensor.shape, *tensor.stride())


def text(string):
    data = string.encode()
    return bytes([len(data)]) + data


def storage_bytes(storage):
    if storage.size() == 0:
        return b""
    return torch.tensor([], dtype=storage.dtype).set_(storage).numpy().tobytes()


def tensor_of(dtype, shape, read):
    array = np.dtype({BOOL: "?", I64: "<i8", F32: "<f4", F64: "<f8"}[dtype])
    count = int(np.prod(shape, dtype=np.int64))
    return torch.from_numpy(np.frombuffer(bytearray(read(count * array.itemsize)), array).copy()).reshape(shape)


def same(mine, theirs, tolerance):
    """Whether two tensors of one dtype and shape have the same elements."""
    if not theirs.dtype.is_floating_point:
        return torch.equal(mine, theirs)
    return torch.allclose(mine, theirs, rtol=tolerance, atol=tolerance, equal_nan=True)


class Comparison:
    """Runs cases on both sides and counts them."""

    def __init__(self, driver, only):
        self.driver, self.only = driver, only
        self.compared, self.refused, self.failures = {}, 0, {}

    def case(self, name, *args, op=None, tolerance=None, **kwargs):
        """Compares one call; `op` is PyTorch's function, or its name where it is not that of ours."""
        short = name.split(".")[0]
        if self.only and short not in self.only:
            return
        op = op or getattr(torch, short)
        mine, viewed, before, after = self.driver.call("aten::" + name, args, kwargs)
        try:
            theirs = op(*args, **kwargs)
        except (RuntimeError, IndexError, TypeError) as error:
            theirs = error
        self.compared[short] = self.compared.get(short, 0) + 1
        try:
            self.check(mine, theirs, tolerance)
            if isinstance(mine, str) and before != after:
                raise Mismatch("refused, but wrote to memory")
            if not isinstance(mine, str):
                self.check_memory(theirs, viewed, after, [*args, *kwargs.values()], tolerance)
        except Mismatch as mismatch:
            self.failures.setdefault(short, []).append(f"{name}{describe(args)} {describe(kwargs)}: {mismatch}")

    def check(self, mine, theirs, tolerance):
        if isinstance(theirs, Exception) != isinstance(mine, str):
            raise Mismatch(f"mine: {mine}; theirs: {str(theirs).splitlines()[:1]}")
        if isinstance(mine, str):
            self.refused += 1
        elif mine.dtype != theirs.dtype or mine.shape != theirs.shape:
            raise Mismatch(f"mine: {mine.dtype} {list(mine.shape)}; theirs: {theirs.dtype} {list(theirs.shape)}")
        elif not same(mine, theirs, tolerance or TOLERANCE.get(theirs.dtype)):
            raise Mismatch(f"mine: {mine}; theirs: {theirs}")

    def check_memory(self, theirs, viewed, after, values, tolerance):
        """Compares what the result is a view of, and what the driver left in each storage with what PyTorch did."""
        storages = []
        for value in values:
            self.driver.encode(value, storages)
        keys = [storage.data_ptr() for storage in storages]
        view_of = keys.index(theirs.storage().data_ptr()) if theirs.storage().data_ptr() in keys else None
        if theirs.numel() > 0 and view_of != viewed:
            raise Mismatch(f"a view of storage: mine: {viewed}; theirs: {view_of}")
        for storage, data in zip(storages, after):
            current = torch.tensor([], dtype=storage.dtype).set_(storage)
            written = tensor_of(storage.dtype, (len(data) // storage.element_size(),), iter_read(data))
            if not same(written, current, tolerance or TOLERANCE.get(storage.dtype)):
                raise Mismatch(f"left in memory: mine: {written}; theirs: {current}")


def iter_read(data):
    return lambda size: data[:size]


def describe(values):
    if isinstance(values, torch.Tensor):
        return f"{str(values.dtype)[6:]}{list(values.shape)}/{list(values.stride())}={values.flatten()[:6].tolist()}"
    if isinstance(values, (list, tuple)):
        return "(" + ", ".join(describe(value) for value in values) + ")"
    if isinstance(values, dict):
        return ", ".join(f"{key}={describe(value)}" for key, value in values.items())
    return repr(values)


# ---- tensors ----


def fresh(dtype, shape, rng, special=False, low=-4, high=5):
    count = int(np.prod(shape, dtype=np.int64))
    if dtype == BOOL:
        items = [rng.random() < 0.5 for _ in range(count)]
    elif dtype == I64:
        items = [rng.randrange(low, high) for _ in range(count)]
    else:
        chance = 0.3 if special else 0
        items = [rng.choice(SPECIAL) if rng.random() < chance else rng.uniform(low, high) for _ in range(count)]
    return torch.tensor(items, dtype=dtype).reshape(shape)


LAYOUTS = ("dense", "permuted", "stepped", "expanded")


def laid_out(layout, dtype, shape, rng, **options):
    """A tensor of the shape in one of LAYOUTS, or dense where the shape has too few dimensions for it."""
    if layout == "permuted" and len(shape) >= 2:
        return fresh(dtype, shape[::-1], rng, **options).permute(*reversed(range(len(shape))))
    if layout == "stepped" and shape:
        stepped = fresh(dtype, (*shape[:-1], shape[-1] * 2 + 1), rng, **options)
        return stepped[..., 1::2][..., : shape[-1]]
    if layout == "expanded" and shape:
        return fresh(dtype, (1, *shape[1:]), rng, **options).expand(shape)
    return fresh(dtype, shape, rng, **options)


def layouts(dtype, shape, rng, **options):
    count = 1 if not shape else 4 if len(shape) > 1 else 3
    for layout in LAYOUTS if count == 4 else ("dense", "stepped", "expanded")[:count]:
        yield laid_out(layout, dtype, shape, rng, **options)


def any_layout(dtype, shape, rng, **options):
    return laid_out(rng.choice(LAYOUTS), dtype, shape, rng, **options)


def joins(left, right):
    """Whether two shapes can be broadcast together."""
    return all(a == b or 1 in (a, b) for a, b in zip(left[::-1], right[::-1]))


def in_range(dim, shape):
    count = max(len(shape), 1)
    return -count <= dim < count


# ---- cases ----


def binary_cases(compare, rng):
    names = ("add", "sub", "mul", "div", "eq", "gt")
    scalars = (True, False, 0, 3, -2, 2.5, -0.0, float("inf"), float("nan"), 1e300, 2**62)
    for a, b in itertools.product(DTYPES, DTYPES):
        for left, right in itertools.product(SHAPES, SHAPES):
            if not joins(left, right) and rng.random() < 0.9:
                continue
            name = rng.choice(names)
            compare.case(name, any_layout(a, left, rng, special=True), any_layout(b, right, rng, special=True))
    for name, dtype, scalar, shape in itertools.product(names, DTYPES, scalars, ((), (3,), (2, 2), (0,))):
        compare.case(name, any_layout(dtype, shape, rng, special=True), scalar)
    for dtype, name, alpha in itertools.product(DTYPES, ("add", "sub"), (True, 0, 2, -3, 0.5, 1e300)):
        for other in DTYPES:
            compare.case(name, fresh(dtype, (2, 3), rng), fresh(other, (3,), rng), alpha=alpha)
        compare.case(name, fresh(dtype, (3,), rng), 2, alpha=alpha)
        compare.case(name, fresh(dtype, (3,), rng), 1.5, alpha=alpha)
    big = torch.tensor([2**63 - 1, -(2**63), 2**62, -1])
    for name in ("add", "sub", "mul", "eq", "gt"):
        compare.case(name, big, big.flip(0))
        compare.case(name, big, 3)


def rounding_cases(compare, rng):
    for a, b, mode in itertools.product(DTYPES, DTYPES, (None, "trunc", "floor", "up")):
        for shape in ((), (40,), (3, 4)):
            left = any_layout(a, shape, rng, special=True, low=-20, high=20)
            right = any_layout(b, rng.choice(((), (1,), shape)), rng, special=True)
            compare.case("div", left, right, rounding_mode=mode)
        for scalar in (True, 0, 3, -3, 0.0, 2.5, -0.3, float("inf")):
            compare.case("div", fresh(a, (7,), rng, special=True, low=-9, high=9), scalar, rounding_mode=mode)


def unary_cases(compare, rng):
    for name, dtype, shape in itertools.product(("neg", "exp", "log", "relu", "sigmoid", "clone", "t"), DTYPES, SHAPES):
        for tensor in layouts(dtype, shape, rng, special=True):
            compare.case(name, tensor)
    compare.case("neg", torch.tensor([-(2**63), 5]))
    compare.case("exp", fresh(F32, (100,), rng, low=-100, high=100))
    compare.case("sigmoid", fresh(F32, (100,), rng, low=-100, high=100))


def where_cases(compare, rng):
    for a, b in itertools.product(DTYPES, DTYPES):
        for shape in SHAPES:
            left, right = (any_layout(dtype, rng.choice((shape, (1,), ())), rng, special=True) for dtype in (a, b))
            compare.case("where", any_layout(BOOL, shape, rng), left, right)
        compare.case("where", fresh(a, (3,), rng), fresh(b, (3,), rng), fresh(b, (3,), rng))
    for scalar, dtype in itertools.product((True, 2, 1.5, 1e300), DTYPES):
        condition, tensor = fresh(BOOL, (2, 3), rng), any_layout(dtype, (3,), rng)
        compare.case("where", condition, scalar, tensor)
        compare.case("where", condition, tensor, scalar)
        compare.case("where", condition, scalar, 3)
        compare.case("where", condition, fresh(dtype, (), rng), scalar)


def reduce_cases(compare, rng):
    for name, dtype, shape in itertools.product(("sum", "mean"), DTYPES, SHAPES):
        for tensor in layouts(dtype, shape, rng, special=rng.random() < 0.3):
            compare.case(name, tensor)
            compare.case(name, tensor, dtype=rng.choice(DTYPES))
            for dims in ([], [0], [-1], [1], [0, 1], [0, -1], [2, 0], [5], None):
                if not all(in_range(dim, shape) for dim in dims or []) and rng.random() < 0.9:
                    continue
                compare.case(name, tensor, dims, rng.random() < 0.5)
                if rng.random() < 0.3:
                    compare.case(name, tensor, dims, dtype=rng.choice(DTYPES))
    for shape in ((1000,), (129, 33), (3, 500, 2)):
        for dtype, dims in itertools.product(DTYPES, ([0], [-1], None)):
            compare.case("sum", any_layout(dtype, shape, rng), dims)
    compare.case("sum", torch.tensor([2**63 - 1, 1, 5]))


def argmax_cases(compare, rng):
    for dtype, shape in itertools.product(DTYPES, SHAPES):
        for tensor in layouts(dtype, shape, rng, special=True):
            compare.case("argmax", tensor)
            for dim, keep in itertools.product((None, 0, 1, -1, 2, -4), (False, True)):
                if dim is not None and not in_range(dim, shape) and rng.random() < 0.9:
                    continue
                compare.case("argmax", tensor, dim, keep)


def softmax_cases(compare, rng):
    for dtype, shape, dim in itertools.product(DTYPES, SHAPES, (0, 1, -1, 3)):
        if not in_range(dim, shape) and rng.random() < 0.9:
            continue
        for tensor in layouts(dtype, shape, rng, special=rng.random() < 0.3):
            for wanted in (None, rng.choice(DTYPES)):
                # PyTorch lets integers pass where there are none.
                if tensor.numel() > 0 or (wanted or dtype).is_floating_point:
                    compare.case("log_softmax", tensor, dim, wanted)
    compare.case("log_softmax", fresh(F32, (4, 300), rng, low=-300, high=300), 1)


def matmul_cases(compare, rng):
    shapes = [(), (4,), (3,), (1,), (0,), (3, 4), (4, 3), (4, 1), (1, 4), (0, 4), (4, 0), (2, 3, 4), (2, 4, 3)]
    shapes += [(1, 4, 5), (5, 1, 3, 4), (2, 4, 1), (3, 4, 2), (2, 0, 4)]
    for left, right, dtype in itertools.product(shapes, shapes, (I64, F32, F64)):
        for _ in range(2):
            compare.case("matmul", any_layout(dtype, left, rng), any_layout(dtype, right, rng))
    for a, b in itertools.product(DTYPES, DTYPES):
        compare.case("matmul", fresh(a, (2, 3), rng), fresh(b, (3, 2), rng))
        compare.case("matmul", fresh(a, (3,), rng), fresh(b, (3,), rng))
    for m, k, n in ((65, 33, 70), (1, 100, 40), (40, 100, 1), (128, 1, 64)):
        for dtype in (I64, F32, F64):
            left, right = any_layout(dtype, (m, k), rng), any_layout(dtype, (k, n), rng)
            compare.case("matmul", left, right, tolerance=1e-3 if dtype == F32 else 1e-9)
    compare.case("matmul", torch.full((2, 2), 2**62), torch.full((2, 2), 3))


def shape_cases(compare, rng):
    targets = [[], [-1], [12], [3, 4], [4, 3], [2, -1], [-1, 0], [2, 2, 3], [1, 12, 1], [24], [-1, -1], [-2], [0]]
    targets += [[0, 4], [6, 2, 2], [4, 6], [2, 12], [3, -1, 1], [5, -1]]
    for shape, target in itertools.product(SHAPES, targets):
        for tensor in layouts(rng.choice(DTYPES), shape, rng):
            compare.case("reshape", tensor, target)


def join_cases(compare, rng):
    for _ in range(600):
        count, dim = rng.randrange(0, 4), rng.choice((0, 1, -1, 2))
        base = list(rng.choice(((3,), (2, 3), (2, 0), (2, 3, 4))))
        parts = []
        for _ in range(count):
            shape = list(base)
            if rng.random() < 0.9 and -len(shape) <= dim < len(shape):
                shape[dim] = rng.randrange(0, 4)
            elif rng.random() < 0.3:
                shape[0] += 1
            shape = rng.choice((shape, shape, shape, shape, [0], []))
            parts.append(any_layout(rng.choice(DTYPES), tuple(shape), rng))
        compare.case("cat", parts, dim)
    for _ in range(600):
        shape, dim = rng.choice(SHAPES), rng.choice((0, 1, -1))
        size = shape[dim] if shape and in_range(dim, shape) and shape[dim] else 1
        index_shape = rng.choice(((), (0,), (1,), (5,), (5,), (2, 2)))
        index = any_layout(I64, index_shape, rng, low=0 if rng.random() < 0.9 else -1, high=size + (rng.random() < 0.1))
        if not shape and index.numel() != 1:
            continue  # ours refuses it, as later PyTorch does; version 1.13 writes past its result
        if rng.random() < 0.05:
            index = index.to(F32)
        compare.case("index_select", any_layout(rng.choice(DTYPES), shape, rng), dim, index)


def create_cases(compare, rng):
    for size, dtype in itertools.product(([], [0], [3], [2, 3], [-1]), (None, *DTYPES)):
        def keyword(op):
            return lambda *args, **kwargs: op(*args, dtype=kwargs.get("dtype"))

        compare.case("zeros", size, op=keyword(torch.zeros), dtype=dtype)
        compare.case("ones", size, op=keyword(torch.ones), dtype=dtype)
        for value in (True, 3, -2.5, 1e300, float("nan"), float("inf"), 2**62):
            compare.case("full", size, value, op=keyword(torch.full), dtype=dtype)
    for a, b, shape in itertools.product(DTYPES, DTYPES, SHAPES):
        for tensor in layouts(a, shape, rng, special=True):
            compare.case("to.dtype", tensor, b, op=torch.Tensor.to)
    extreme = torch.tensor([1e30, -1e30, 2.0**63, -(2.0**63), 9.9, -9.9, float("nan"), 1e-40], dtype=F64)
    for dtype in DTYPES:
        compare.case("to.dtype", extreme, dtype, op=torch.Tensor.to)
        compare.case("to.dtype", extreme.float(), dtype, op=torch.Tensor.to)


def run_in_place(compare, name, self, *rest, **kwargs):
    """PyTorch works on a copy, in the same layout, that then stands for what the first argument became."""
    compare.case(name, self, *rest, op=getattr(torch.Tensor, name), **kwargs)


def in_place_cases(compare, rng):
    for name, a, b in itertools.product(("add_", "mul_", "copy_"), DTYPES, DTYPES):
        for left, right in itertools.product(SHAPES, SHAPES):
            if rng.random() < (0.5 if joins(left, right) and len(left) >= len(right) else 0.05):
                self = laid_out(rng.choice(LAYOUTS[:3]), a, left, rng)
                run_in_place(compare, name, self, any_layout(b, right, rng, special=True))
    for name, dtype, scalar in itertools.product(("add_", "mul_"), DTYPES, (True, 3, 1.5, float("nan"))):
        for tensor in layouts(dtype, (2, 3), rng):
            run_in_place(compare, name, tensor, scalar)
    for dtype, alpha in itertools.product(DTYPES, (True, 2, 0.5)):
        run_in_place(compare, "add_", fresh(dtype, (2, 3), rng), fresh(dtype, (3,), rng), alpha=alpha)
    for name in ("add_", "mul_"):
        same_one = fresh(F32, (3, 4), rng)
        run_in_place(compare, name, same_one, same_one)
        disjoint = fresh(F32, (6,), rng)
        run_in_place(compare, name, disjoint[:3], disjoint[3:])


def index_add_cases(compare, rng):
    for _ in range(1500):
        shape, dim = rng.choice([s for s in SHAPES if len(s) > 0]), rng.choice((0, 0, 1, -1))
        count = rng.choice((0, 1, 2, 5))
        source = list(shape)
        if -len(shape) <= dim < len(shape):
            source[dim] = count
        if rng.random() < 0.05:
            source[0] += 1
        dtype = rng.choice(DTYPES)
        other = dtype if rng.random() < 0.9 else rng.choice(DTYPES)
        size = shape[dim] if in_range(dim, shape) and shape[dim] else 1
        index = any_layout(I64, (count,), rng, low=0 if rng.random() < 0.9 else -1, high=size)
        kwargs = {"alpha": rng.choice((2, 1.5, True))} if rng.random() < 0.5 else {}
        self = laid_out(rng.choice(LAYOUTS[:3]), dtype, shape, rng)
        run_in_place(compare, "index_add_", self, dim, index, any_layout(other, tuple(source), rng), **kwargs)


# Each group, and the operators it has cases of.
GROUPS = (
    (binary_cases, "add sub mul div eq gt"),
    (rounding_cases, "div"),
    (unary_cases, "neg exp log relu sigmoid clone t"),
    (where_cases, "where"),
    (reduce_cases, "sum mean"),
    (argmax_cases, "argmax"),
    (softmax_cases, "log_softmax"),
    (matmul_cases, "matmul"),
    (shape_cases, "reshape"),
    (join_cases, "cat index_select"),
    (create_cases, "zeros ones full to"),
    (in_place_cases, "add_ mul_ copy_"),
    (index_add_cases, "index_add_"),
)


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    driver = Driver(sys.argv[1])
    compare = Comparison(driver, sys.argv[2:])
    for number, (group, names) in enumerate(GROUPS):
        if not compare.only or set(compare.only) & set(names.split()):
            group(compare, random.Random(number))
    code = driver.close()
    for failures in compare.failures.values():
        for failure in failures[:SHOWN]:
            print("MISMATCH", failure)
    total = sum(compare.compared.values())
    print(", ".join(f"{name}: {count}" for name, count in sorted(compare.compared.items())))
    print(f"{total} cases compared ({compare.refused} of them refused by both), "
          f"{sum(map(len, compare.failures.values()))} mismatches")
    return 1 if compare.failures or code != 0 or total == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
