"""Which files and functions of `app` and `mtlora` one request passes: `python -m scripts.request_path [--list]`.

A small server runs in this process; what the decoder processes do is not counted. Each request is sent several times,
and the shortest path counts: what is done once in a while, or only the first time, is left out. Each upload is of a new
set.
"""

import argparse
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from unittest.mock import AsyncMock

import httpx

from app.registry.store_watcher import StoreWatcher
from mtlora.cli.say import say
from testing.paths import ROOT
from testing.serving import encoded, live_app, make_weights, picture, settings_for

FOLDERS = ("app", "mtlora")
TRIES = 6


class Watch:
    """The functions that begin while it looks, in every thread that was started after `start`."""

    def __init__(self) -> None:
        self._found: set[CodeType] | None = None

    def start(self) -> None:
        """Be told of every function from now on."""
        threading.setprofile(self._event)

    @contextmanager
    def looking(self) -> Iterator[set[CodeType]]:
        """The functions that begin meanwhile."""
        found = self._found = set()
        try:
            yield found
        finally:
            self._found = None

    def _event(self, frame: FrameType, kind: str, _: object) -> None:
        if (
            kind == "call"
            and not frame.f_code.co_name.startswith("<")
            and self._found is not None
            and _own(frame.f_code) is not None
        ):
            self._found.add(frame.f_code)


def _own(code: CodeType) -> str | None:
    """The path below the repository, of a function of ours."""
    path = Path(code.co_filename)
    if not path.is_relative_to(ROOT):
        return None
    relative = path.relative_to(ROOT)
    return str(relative) if relative.parts[0] in FOLDERS else None


def main() -> None:
    """Count them for a prediction and for an upload."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="name every function")
    listed = parser.parse_args().list
    StoreWatcher.run = AsyncMock()  # type: ignore[method-assign]  # looks every now and then, for no request
    watch = Watch()
    watch.start()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        weights = make_weights(root)
        with live_app(settings_for(weights, root / "store")) as live:
            photo = encoded(picture(), "JPEG")
            jpeg = {"Content-Type": "image/jpeg"}

            def predict(query: str, _: int) -> httpx.Response:
                return live.client.post(f"/predict{query}", content=photo, headers=jpeg)

            def upload(number: int) -> httpx.Response:
                return live.client.post(f"/adapters?name=set-{number}", files={"file": weights.upload("cats")})

            requests: dict[str, Callable[[int], httpx.Response]] = {
                "POST /predict, PNG": partial(predict, "?tasks=semseg&format=png"),
                "POST /predict, JSON": partial(predict, ""),
                "POST /adapters": upload,
            }
            for title, send in requests.items():
                paths = []
                for number in range(TRIES):
                    with watch.looking() as found:
                        send(number).raise_for_status()
                    paths.append(found)
                _tell(title, min(paths, key=len), listed=listed)


def _tell(title: str, found: set[CodeType], *, listed: bool) -> None:
    functions = sorted((str(_own(code)), code.co_firstlineno, code.co_qualname) for code in found)
    files = {path for path, *_ in functions}
    service = [path for path in files if path.startswith("app/")]
    say(f"{title}: {len(files)} files ({len(service)} of app), {len(functions)} functions")
    if listed:
        for path, line, name in functions:
            say(f"  {path}:{line} {name}")


if __name__ == "__main__":
    main()
