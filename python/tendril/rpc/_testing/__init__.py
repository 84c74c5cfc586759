# SPDX-License-Identifier: Apache-2.0
"""A backend for tests, FAULTY_TENSORPIPE, whose agents fail or delay messages. Importing this registers it."""

from . import faulty_agent_backend_registry  # noqa: F401
from .faulty_agent import FaultyTensorPipeAgent, FaultyTensorPipeRpcBackendOptions

__all__ = ["FaultyTensorPipeAgent", "FaultyTensorPipeRpcBackendOptions", "is_available"]


def is_available() -> bool:
    """Whether the backend is there: always."""
    return True
