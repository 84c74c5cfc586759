# SPDX-License-Identifier: Apache-2.0
"""Gradients: what of them stays on one worker; calls that would carry them to another say that they cannot yet."""

from typing import Any

import torch

from tendril import autograd

UNSET_CONTEXT = -1


def check_gradients(args: Any, kwargs: Any) -> None:
    """Raises where a call would carry gradients into a distributed pass, which would silently get lost.

    Raises:
        NotImplementedError: the thread is in a context, and a tensor among the arguments requires a gradient.
    """
    if not autograd._in_context():
        return
    if _requires_grad(args) or _requires_grad(kwargs):
        raise NotImplementedError(
            "a call inside distributed.autograd.context() has arguments that require gradients, and gradients do not "
            "go from worker to worker yet: detach() them, or make the call outside the context"
        )


def _requires_grad(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.requires_grad
    if isinstance(value, (list, tuple, set)):
        return any(_requires_grad(item) for item in value)
    if isinstance(value, dict):
        return any(_requires_grad(item) for item in value.values())
    return False


def backward(rref: Any, context_id: int, retain_graph: bool) -> None:
    """`rref.backward()`: on the owner without a context, a backward pass of torch's from the value.

    Raises:
        RuntimeError: the value is no tensor, torch cannot start from it, or a context is missing.
    """
    if not rref.is_owner():
        if context_id == UNSET_CONTEXT:
            raise RuntimeError("User RRefs require 'dist_autograd_ctx_id' to be specified")
        from tendril.rpc import api

        api.rpc_sync(rref.owner(), _backward_on_owner, args=(rref, context_id, retain_graph))
        return
    _backward_on_owner(rref, context_id, retain_graph)


def _backward_on_owner(rref: Any, context_id: int, retain_graph: bool) -> None:
    value = rref.local_value()
    if not isinstance(value, torch.Tensor):
        raise RuntimeError("RRef should contain a tensor for .backward()")
    if context_id == UNSET_CONTEXT:
        value.backward(retain_graph=retain_graph)
    else:
        autograd.backward(context_id, [value], retain_graph=retain_graph)
