"""The same question put to both clients."""

import asyncio
from collections.abc import Callable
from typing import Any

from mtlora.client import AsyncClient, Client

KINDS = ("Client", "AsyncClient")


def ask(kind: str, url: str, question: Callable[[Any], Any], **options: Any) -> Any:
    """What a method of a client gives, or its error."""
    if kind == "Client":
        with Client(url, **options) as client:
            return question(client)

    async def work() -> Any:
        async with AsyncClient(url, **options) as client:
            return await question(client)

    return asyncio.run(work())
