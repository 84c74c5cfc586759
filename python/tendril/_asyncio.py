# SPDX-License-Identifier: Apache-2.0
"""Coroutines: functions defined with `async def` run for callers, and futures awaited in anyone's event loop.

An agent has one event loop, in a thread of its own, made when the first coroutine is called.
"""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, Callable, Optional

Done = Callable[[Any, Optional[BaseException]], object]

_STOP_SECONDS = 5.0

_lock = threading.Lock()
_loops: "dict[str, _Loop]" = {}


def wrap(future: Any) -> "asyncio.Future[Any]":
    """A future of the running event loop that completes as `future` does; where it is cancelled, so is `future`.

    Args:
        future: a `_C.Future`.

    Raises:
        RuntimeError: no event loop runs in this thread.
    """
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def transfer() -> None:
        if waiter.done():
            return
        try:
            value = future.value()
        except BaseException as error:
            waiter.set_exception(error)
        else:
            waiter.set_result(value)

    def completed(_: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(transfer)

    def cancelled(_: Any) -> None:
        if waiter.cancelled():
            future.cancel()

    if future.done():
        transfer()
    else:
        waiter.add_done_callback(cancelled)
        future._on_done(completed)  # does not block
    return waiter


class _Loop:
    """An event loop, and the thread that runs it until it is stopped."""

    def __init__(self, agent_name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._run, name=f"tendril-{agent_name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            with contextlib.suppress(Exception):
                self._loop.run_until_complete(self._cancel_all())
            self._loop.close()

    async def _cancel_all(self) -> None:
        """Ends what still runs; whoever called it hears of it."""
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def submit(self, coroutine: Coroutine[Any, Any, Any], done: Done) -> None:
        """Runs `coroutine`, then calls `done` with its result or what it raised."""

        async def run() -> None:
            try:
                result = await coroutine
            except BaseException as error:
                done(None, error)
                if not isinstance(error, (Exception, asyncio.CancelledError)):
                    raise
            else:
                done(result, None)

        def start() -> None:
            task = self._loop.create_task(run())
            self._tasks.add(task)  # the loop itself keeps none alive
            task.add_done_callback(self._tasks.discard)

        self._loop.call_soon_threadsafe(start)

    def stop(self) -> None:
        """Ends it, with what runs in it."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(_STOP_SECONDS)


def run(agent_name: str, coroutine: Coroutine[Any, Any, Any], done: Done) -> None:
    """Runs a coroutine in an agent's event loop, and then calls `done(result, exception)` there.

    Args:
        agent_name: whose loop; it is made when it is first needed.
        coroutine: what to run.
        done: must not block.
    """
    with _lock:
        loop = _loops.get(agent_name)
        if loop is None:
            loop = _loops[agent_name] = _Loop(agent_name)
        loop.submit(coroutine, done)


def stop(agent_name: str) -> None:
    """Ends an agent's event loop, if it has one. Coroutines that still run there are cancelled."""
    with _lock:
        loop = _loops.pop(agent_name, None)
    if loop is not None:
        loop.stop()
