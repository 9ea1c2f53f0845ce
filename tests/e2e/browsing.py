"""What tests of the page share: a photo, where to wait, and what a layer paints."""

import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from testing.serving import encoded, picture

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NO_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium found; on Debian: apt-get install --no-install-recommends chromium"
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--use-fake-device-for-media-stream",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTH, HEIGHT = 400, 300
PHOTO = encoded(picture(WIDTH, HEIGHT), "JPEG")
JPEG = {"Content-Type": "image/jpeg"}
TIMEOUT_MS = 20_000
# Number of pixels that a layer paints, number of different colours, and its sides, in px.
SEEN = """canvas => {
  const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
  const pen = copy.getContext("2d", { willReadFrequently: true });
  pen.drawImage(canvas, 0, 0);
  const { data } = pen.getImageData(0, 0, copy.width, copy.height);
  const colors = new Set();
  let painted = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] === 0) continue;
    painted += 1;
    colors.add(data[i] * 65536 + data[i + 1] * 256 + data[i + 2]);
  }
  return { painted, colors: colors.size, width: canvas.width, height: canvas.height };
}"""

OpenPage = Callable[..., "Page"]


def wait_done(page: "Page", ref: str) -> None:
    """Until the maps of a set's revision are on screen."""
    from playwright.sync_api import expect

    expect(page.locator("#timings .timehead .ref").first).to_have_text(ref, timeout=TIMEOUT_MS)
    expect(page.locator("#progress")).to_be_hidden()


def send_photo(page: "Page") -> None:
    from playwright.sync_api import expect

    page.set_input_files("#photo-file", {"name": "disc.jpg", "mimeType": "image/jpeg", "buffer": PHOTO})
    expect(page.locator("#photo-fact")).to_contain_text(f"disc.jpg · {WIDTH} × {HEIGHT} px")
    expect(page.locator("#code")).to_contain_text("disc.jpg", timeout=TIMEOUT_MS)


def seen(page: "Page", layer: str = "layer-a") -> dict[str, int]:
    result: dict[str, int] = page.locator(f"#frames .{layer}").first.evaluate(SEEN)
    return result


def no_sideways_scrolling(page: "Page") -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")
