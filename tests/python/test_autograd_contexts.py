# SPDX-License-Identifier: Apache-2.0
"""Contexts of distributed passes, as far as they are local."""

import subprocess
import sys
import threading

import pytest

from tendril import autograd

WORKER = 7


@pytest.fixture(autouse=True)
def container(monkeypatch):
    """A process that is worker 7 and has made no context."""
    monkeypatch.setattr(autograd, "_container", autograd._Container())
    autograd._init(WORKER)


def test_ids():
    with autograd.context() as first:
        pass
    with autograd.context() as second:
        assert second == first + 1
        assert second >> 48 == WORKER
        assert autograd._current_context()._context_id() == second
        assert autograd._retrieve_context(second)._known_worker_ids() == set()
        assert autograd._is_valid_context(second) is None
        assert autograd._get_debug_info() == {"num_current_backward_passes": 0, "num_autograd_contexts": 1}
    assert autograd._get_max_id() == (WORKER << 48) + 281474976710655
    for look in (autograd._retrieve_context, autograd._is_valid_context, autograd.get_gradients):
        with pytest.raises(RuntimeError, match=f"Could not find autograd context with id: {second}"):
            look(second)


def test_one_in_a_thread():
    with autograd.context() as mine:
        with pytest.raises(RuntimeError, match="Already have an autograd context id for this thread"):
            autograd._new_context()
        seen = []

        def run():
            with autograd.context() as other:
                seen.append(other)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert seen == [mine + 1]
        assert autograd._current_context()._context_id() == mine


def test_ends_when_the_body_raises():
    with pytest.raises(KeyError), autograd.context():
        raise KeyError
    with pytest.raises(RuntimeError, match="doesn't have a valid autograd context"):
        autograd._current_context()


def test_worker_ids():
    autograd._init(WORKER)
    with pytest.raises(RuntimeError, match="worker_id: 7, cannot initialize with different worker_id: 8"):
        autograd._init(8)
    for wrong in (-1, 65536):
        with pytest.raises(RuntimeError, match=r"worker_id needs to be in the range \[0, 65535\]"):
            autograd._init(wrong)


def test_before_init(monkeypatch):
    monkeypatch.setattr(autograd, "_container", autograd._Container())
    for ask in (autograd._new_context, autograd._get_max_id, autograd._current_context, autograd._get_debug_info):
        with pytest.raises(RuntimeError, match="Need to initialize distributed autograd"):
            ask()


def test_backward_is_not_there():
    with autograd.context() as context_id, pytest.raises(NotImplementedError):
        autograd.backward(context_id, [])


def test_needs_neither_torch_nor_numpy():
    names = "('torch', 'numpy')"
    code = f"import sys, tendril.rpc, tendril.autograd; sys.exit(any(name in sys.modules for name in {names}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
