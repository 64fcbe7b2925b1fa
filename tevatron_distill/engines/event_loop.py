"""Coroutines run to their end, also where the caller's thread has an event loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def run_to_end(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine; in a notebook, whose loop is running already, in a thread beside it.

    Ctrl-C cancels the coroutine, and is raised when that has been dealt with.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # there is none
        asyncio.run(coroutine)
        return
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

    async def run() -> None:
        task = asyncio.ensure_future(coroutine)
        running.append((asyncio.get_running_loop(), task))
        await task

    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(asyncio.run, run())
        try:
            done.result()
        except BaseException:
            for loop, task in running:
                if not done.done():
                    loop.call_soon_threadsafe(task.cancel)
            raise
