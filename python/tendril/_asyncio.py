# SPDX-License-Identifier: Apache-2.0
"""Coroutines: functions defined with `async def` run for callers, and futures awaited in anyone's event loop.

A future can be awaited under asyncio and trio, and in loops that a program has written itself: those are given the
future by the coroutine's `send`, and send anything once it has completed.

An agent has one event loop, in a thread of its own, made when the first coroutine is called.
"""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, Callable, Optional

Done = Callable[[Any, Optional[BaseException]], object]

_STOP_SECONDS = 5.0

_lock = threading.Lock()
_loops: "dict[str, _Loop]" = {}


def wrap(future: Any) -> Awaitable[Any]:
    """What to await for the outcome of `future` in the event loop that runs here. Giving up waiting cancels `future`.

    Args:
        future: a `_C.Future`, or another one with its methods.
    """
    trio = sys.modules.get("trio")
    if trio is not None and _in_trio(trio):
        return _wait_in_trio(trio, future)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _Steps(future)
    return _wait_in_asyncio(loop, future)


def _wait_in_asyncio(loop: asyncio.AbstractEventLoop, future: Any) -> "asyncio.Future[Any]":
    waiter: asyncio.Future[Any] = loop.create_future()

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


def _in_trio(trio: Any) -> bool:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


async def _wait_in_trio(trio: Any, future: Any) -> Any:
    token = trio.lowlevel.current_trio_token()
    done = trio.Event()

    def completed(_: Any) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(done.set)

    future._on_done(completed)
    try:
        await done.wait()
    except BaseException:
        future.cancel()
        raise
    return future.value()


class _Steps:
    """Awaited in a loop that nobody knows: hands the future to the loop until it has completed."""

    def __init__(self, future: Any) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            while not self._future.done():
                yield self._future
        except BaseException:
            self._future.cancel()
            raise
        return self._future.value()


class Run:
    """A coroutine that runs, or is about to."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: Optional[asyncio.Task[Any]] = None

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """In its loop's thread."""
        self._task = self._loop.create_task(coroutine)
        return self._task

    def cancel(self) -> None:
        """Has asyncio.CancelledError raised where it waits. From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop may be closed by now
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


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

    def submit(self, coroutine: Coroutine[Any, Any, Any], done: Done) -> Run:
        """Runs `coroutine`, then calls `done` with its result or what it raised."""
        handle = Run(self._loop)

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
            task = handle.start(run())
            self._tasks.add(task)  # the loop itself keeps none alive
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: coroutine.close())  # of a task that was cancelled before it began

        self._loop.call_soon_threadsafe(start)
        return handle

    def stop(self) -> None:
        """Ends it, with what runs in it."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(_STOP_SECONDS)


def run(agent_name: str, coroutine: Coroutine[Any, Any, Any], done: Done) -> Run:
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
        return loop.submit(coroutine, done)


def stop(agent_name: str) -> None:
    """Ends an agent's event loop, if it has one. Coroutines that still run there are cancelled."""
    with _lock:
        loop = _loops.pop(agent_name, None)
    if loop is not None:
        loop.stop()
