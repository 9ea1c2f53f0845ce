"""Which changes of adapter sets give way to predictions, asked over HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.scheduling.background_throttle import BackgroundThrottle
from testing.requests import predict, upload
from testing.serving import Weights, live_app, settings_for


def test_uploads_and_explicit_loads_give_way_and_loads_that_a_photo_waits_for_do_not(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    class Watched(BackgroundThrottle):
        @asynccontextmanager
        async def change(self) -> AsyncIterator[None]:
            async with super().change():
                begun.append("change")
                yield

    monkeypatch.setattr("app.composition.parts.BackgroundThrottle", Watched)
    with live_app(settings_for(weights, tmp_path / "store")) as live:
        begun.clear()
        upload(live.client, weights.upload("cats"), name="cats")
        assert (predict(live.client, "cats").headers["x-adapter-cold"], len(begun)) == ("1", 1)
        statuses = [live.client.post("/adapters/people/load").status_code for _ in range(2)]  # once is enough
        assert (statuses, len(begun)) == ([200, 200], 2)
