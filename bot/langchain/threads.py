"""Run a blocking generator from asynchronous code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Iterator
from typing import TypeVar, cast

from langchain_core.runnables.config import run_in_executor

T = TypeVar("T")


async def in_thread(steps: Iterator[T]) -> AsyncIterator[T]:
    """Run a generator's steps in the executor, and close it as soon as nobody listens."""
    end = object()
    step: asyncio.Future[T | object] | None = None
    try:
        while True:
            step = asyncio.ensure_future(run_in_executor(None, next, steps, end))
            item = await asyncio.shield(step)
            if item is end:
                return
            yield cast(T, item)
    finally:
        if step is not None:
            await asyncio.wait([step])  # cancelled in mid-step: a generator that runs cannot be closed
        await run_in_executor(None, cast(Generator[T, None, None], steps).close)
