"""Moving pictures on the page: Chromium's own test camera, and a film that the page records of itself."""

import re
from typing import TYPE_CHECKING

import pytest

from tests.e2e.browsing import NO_CHROMIUM, TIMEOUT_MS, OpenPage, seen, wait_done

pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright: pip install playwright")
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = NO_CHROMIUM

RATE = re.compile(r"([0-9.]+) frames a second · .* from frame to maps")
FILM = """async () => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 160, height: 120 });
  const pen = canvas.getContext("2d");
  const recorder = new MediaRecorder(canvas.captureStream(10), { mimeType: "video/webm" });
  const parts = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  const done = new Promise((resolve) => (recorder.onstop = resolve));
  recorder.start();
  for (let i = 0; i < 12; i += 1) {
    pen.fillStyle = `hsl(${30 * i} 80% 50%)`;
    pen.fillRect(0, 0, 160, 120);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  recorder.stop();
  await done;
  const data = new DataTransfer();
  data.items.add(new File(parts, "film.webm", { type: "video/webm" }));
  const input = document.getElementById("photo-file");
  input.files = data.files;
  input.dispatchEvent(new Event("change"));
}"""


def wait_live(page: "Page", name: str) -> None:
    expect(page.locator("#photo-fact")).to_have_text(RATE, timeout=TIMEOUT_MS)
    expect(page.locator("#photo-fact")).to_contain_text(name)


def test_camera(url: str, open_page: OpenPage) -> None:
    page = open_page(url, permissions=["camera"])
    wait_done(page, "default@1")
    page.get_by_role("button", name="Use the camera").click()
    wait_live(page, "camera · 320 × 240 px")
    assert (seen(page)["width"], seen(page)["height"]) == (320, 240)
    page.locator("#slots input[value=people]").check()  # while it runs
    wait_done(page, "people@1")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Use the camera")).to_be_visible()
    page.get_by_role("tab", name="Saliency").click()  # of the last frame
    assert seen(page)["width"] == 320
    page.get_by_role("button", name="Cat, close").click()
    expect(page.locator("#photo-fact")).to_contain_text("chelsea.jpg")


def test_no_camera(url: str, open_page: OpenPage) -> None:
    page = open_page(url)  # headless Chromium says no for the person
    wait_done(page, "default@1")
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator("#problem")).to_contain_text("The camera cannot be used", timeout=TIMEOUT_MS)
    expect(page.get_by_role("button", name="Use the camera")).to_be_visible()


def test_a_film(url: str, open_page: OpenPage) -> None:
    page = open_page(url)
    wait_done(page, "default@1")
    page.evaluate(FILM)
    wait_live(page, "film.webm · 160 × 120 px")
    assert seen(page)["width"] == 160
    page.get_by_role("button", name="Astronaut before a flag").click()  # a photo ends it
    expect(page.locator("#photo-fact")).to_contain_text("astronaut.jpg")
    expect(page.get_by_role("button", name="Use the camera")).to_be_visible()


def test_what_is_no_film(url: str, open_page: OpenPage) -> None:
    page = open_page(url)
    wait_done(page, "default@1")
    page.set_input_files("#photo-file", {"name": "broken.mp4", "mimeType": "video/mp4", "buffer": b"nothing"})
    expect(page.locator("#problem")).to_contain_text("broken.mp4 cannot be played", timeout=TIMEOUT_MS)
