# SPDX-License-Identifier: Apache-2.0
"""Defaults of the package. Times are in seconds unless they are a `timedelta`."""

from datetime import timedelta

DEFAULT_RPC_TIMEOUT_SEC: float = 60.0
"""How long a call may take where nothing else is said."""

DEFAULT_INIT_METHOD: str = "env://"
"""Where members meet where nothing else is said: at the address that the environment names."""

DEFAULT_SHUTDOWN_TIMEOUT: float = 0
"""How long `shutdown` waits for the other members: 0 is as long as it takes."""

DEFAULT_NUM_WORKER_THREADS: int = 16
"""How many functions run at once in an agent."""

DEFAULT_PROCESS_GROUP_TIMEOUT: timedelta = timedelta(milliseconds=2**31 - 1)
"""How long the members of a static group wait for each other where they meet through a process group."""

UNSET_RPC_TIMEOUT: float = -1.0
"""Stands for "the agent's default" wherever a timeout is asked for."""
