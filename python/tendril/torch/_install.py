# SPDX-License-Identifier: Apache-2.0
"""Putting Tendril in the place of `torch.distributed.rpc`, in this process and in those that it starts."""

import os
import sys
import threading

ENVIRONMENT_NAME = "TENDRIL_TORCH"
"""Where this is "1" in the environment, a process installs Tendril as soon as it has imported torch."""

_lock = threading.RLock()
_installed = False


def is_installed() -> bool:
    """Whether `install` has been called in this process."""
    return _installed


def install(*, children: bool = True) -> None:
    """Puts Tendril in the place of `torch.distributed.rpc` and `torch.distributed.autograd`. Once, or more often.

    Call it before modules are imported that use those: names that they have taken from torch's modules stay torch's.
    Modules of torch's own are an exception: they are mended.

    Args:
        children: have processes that are started from here do the same, by their environment.

    Raises:
        ImportError: torch is not installed, or has been built without torch.distributed.
        RuntimeError: this process is in a group of torch.distributed.rpc's already.
    """
    global _installed
    with _lock:
        if _installed:
            return
        try:
            import torch
        except ImportError as error:
            raise ImportError(
                "tendril.torch needs torch, which cannot be imported here; `import tendril.rpc` does without it",
                name="torch",
            ) from error
        if _installed:  # by the import, where the environment wants it
            return
        if not torch.distributed.is_available():
            raise ImportError("tendril.torch needs a torch that has torch.distributed; this one was built without it")
        _check_unused(torch)
        from . import _aliases, _hooked

        _aliases.replace_modules()
        _hooked.install()
        _installed = True
        if children:
            _arrange_children()


def _check_unused(torch: "object") -> None:
    """Raises RuntimeError where torch's own agent is at work: its calls would be lost."""
    stock = sys.modules.get("torch.distributed.rpc")
    is_set = getattr(stock, "_is_current_rpc_agent_set", None)
    if is_set is not None and is_set():
        raise RuntimeError("tendril.torch.install() has to come before torch.distributed.rpc.init_rpc()")


def _arrange_children() -> None:
    """Has Python processes with this environment install Tendril: see _site/sitecustomize.py."""
    here = os.path.dirname(os.path.abspath(__file__))
    wanted = [os.path.join(here, "_site"), os.path.dirname(os.path.dirname(here))]
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join([path for path in wanted if path not in paths] + paths)
    os.environ[ENVIRONMENT_NAME] = "1"
