# SPDX-License-Identifier: Apache-2.0
"""References as tuples, for picklers of programs."""

import pytest


def _make():
    return [1, 2]


def _take(form):
    from tendril import rpc

    return rpc.PyRRef._deserialize(form).to_here()


def run_forms(rank, world_size, url):
    from tendril import rpc

    rpc.api._ignore_rref_leak = False
    options = rpc.TensorPipeRpcBackendOptions(init_method=url)
    rpc.init_rpc(f"w{rank}", rank=rank, world_size=world_size, rpc_backend_options=options)
    rref = rpc.remote("w1", _make)
    if rank == 0:
        form = rref._serialize()
        assert len(form) == 7 and all(isinstance(number, int) for number in form[:6])
        assert form[0] == 1 and form[1] == form[3] == form[5] == 0
        assert rpc.rpc_sync("w2", _take, (form,)) == [1, 2]
        # Each is for one reader.
        for reader in ("w0", "w1", "w2"):
            assert rpc.rpc_sync(reader, _take, (rref._serialize(),)) == [1, 2]
        assert rpc.rpc_sync("w2", _take, (rpc.RRef({"mine": 1})._serialize(),)) == {"mine": 1}
    rpc.shutdown()
    if rank == 1:
        return  # an owner's stays
    with pytest.raises(RuntimeError, match="has been deleted. Cannot call fork an UserRRef after deletion."):
        rref._serialize()


def test_forms(group):
    group(3, run_forms)


def run_wrong_forms(rank, world_size, url):
    from tendril import rpc

    options = rpc.TensorPipeRpcBackendOptions(init_method=url)
    rpc.init_rpc("alone", rank=0, world_size=1, rpc_backend_options=options)
    for form in ((1, 2), [1, 2, 3, 4, 5, 6, ""], None):
        with pytest.raises(RuntimeError, match="Pickled RRefForkData must contain 7 numbers."):
            rpc.PyRRef._deserialize(form)
    for text in ("list", "tendril:1:2:3", "tendril:1:2:3:4x"):
        with pytest.raises(RuntimeError, match="is not what PyRRef._serialize of tendril ends with"):
            rpc.PyRRef._deserialize((0, 0, 0, 0, 0, 0, text))
    for form in ((0, 0, 0, 0, 0, 0, 1), ("0", 0, 0, 0, 0, 0, "tendril:1:2:3:4")):
        with pytest.raises(TypeError):
            rpc.PyRRef._deserialize(form)
    with pytest.raises(OverflowError):
        rpc.PyRRef._deserialize((-1, 0, 0, 0, 0, 0, "tendril:1:2:3:4"))
    with pytest.raises(RuntimeError):
        rpc.PyRRef._deserialize((1 << 40, 0, 0, 0, 0, 0, "tendril:1:2:3:4"))
    form = rpc.RRef(1)._serialize()
    assert _take(form) == 1
    with pytest.raises(RuntimeError):
        _take(form)
    rpc.shutdown()


def test_wrong_forms(group):
    group(1, run_wrong_forms)
