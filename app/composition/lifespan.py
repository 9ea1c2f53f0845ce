"""The lifespan of the application: start in the background, so that /livez answers at once; stop in order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app.composition.service import Service


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start the service of this application; leaving finishes what runs."""
    service: Service = app.state.service
    starting = asyncio.create_task(service.start(), name="start")
    try:
        yield
    finally:
        service.drain()
        await starting
        await service.stop()
