"""Coroutines of an engine, with and without an event loop around it."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest

from tevatron_distill.engines.event_loop import run_to_end


def beside_a_loop(call):
    async def notebook():
        return call()

    return asyncio.run(notebook())


@pytest.mark.parametrize("around", [lambda call: call(), beside_a_loop], ids=["alone", "in a notebook"])
def test_a_coroutine_runs_to_its_end_and_its_error_is_raised(around):
    done = []

    async def work():
        await asyncio.sleep(0)
        done.append(True)

    async def fail():
        raise ValueError("of the coroutine")

    around(lambda: run_to_end(work()))
    assert done == [True]
    with pytest.raises(ValueError, match="of the coroutine"):
        around(lambda: run_to_end(fail()))


def test_ctrl_c_in_a_notebook_cancels_the_coroutine_and_waits_for_it():
    ended = []

    async def work():
        try:
            # to the thread that waits, as the terminal's would come; a signal of the timer's thread wakes nobody
            threading.Timer(0.1, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            ended.append(True)

    async def notebook():
        # asyncio.run of the outer loop would cancel it instead of raising here
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                run_to_end(work())
        finally:
            signal.signal(signal.SIGINT, before)

    asyncio.run(notebook())
    assert ended == [True]
