"""Pictures of the playground for the documentation, by Chromium, of a server with the bundled sets and an empty store.

python scripts/playground_pictures.py http://127.0.0.1:8000 --out docs/images
"""

import argparse
import io
from pathlib import Path
from typing import Literal

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ADAPTERS = Path("adapters")
MAX_WIDTH_PX = 1280
QUALITY = 85


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    for content in ("people", "default"):
        upload(options.url, "studio", ADAPTERS / f"{content}.safetensors")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox", "--disable-gpu"])
        for picture in (light, compare, sets, phone):
            target = options.out / f"playground-{picture.__name__}.jpg"
            small(picture(browser, options.url)).save(target, quality=QUALITY, subsampling=0, optimize=True)
            print(target)
        browser.close()


def upload(url: str, name: str, file: Path) -> None:
    httpx.post(f"{url}/adapters", data={"name": name}, files={"file": file.read_bytes()}).raise_for_status()


def opened(
    browser: Browser, url: str, scheme: Literal["dark", "light"], width: int, height: int, scale: float = 1
) -> Page:
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=scale)
    page.goto(url)
    if "#sets" not in url:
        page.locator("#timings .timehead").wait_for()
        page.get_by_role("radio", name="default").check()
    return page


def light(browser: Browser, url: str) -> bytes:
    page = opened(browser, url, "light", 1440, 1080)
    page.get_by_role("tab", name="All").click()
    page.locator("#frames .picture").first.hover(position={"x": 170, "y": 110})
    return page.screenshot()


def compare(browser: Browser, url: str) -> bytes:
    page = opened(browser, url, "dark", 1440, 1080)
    page.get_by_role("switch").check()
    page.locator("#compare-b").select_option("people")
    page.locator("#timings .timehead .ref", has_text="people@1").wait_for()
    page.get_by_role("tab", name="Human parts").click()
    page.get_by_role("slider", name="Line between").focus()
    page.keyboard.press("ArrowLeft")
    return page.screenshot()


def sets(browser: Browser, url: str) -> bytes:
    page = opened(browser, f"{url}/#sets", "light", 1280, 940)
    page.get_by_role("article", name="Adapter set studio").locator("summary").click()
    torn = (ADAPTERS / "people.safetensors").read_bytes()[:1_000_000]
    page.set_input_files("#set-file", {"name": "torn.safetensors", "mimeType": "", "buffer": torn})
    page.locator(".upload-entry.refused").wait_for()
    return page.screenshot(full_page=True)


def phone(browser: Browser, url: str) -> bytes:
    page = opened(browser, url, "light", 390, 844, scale=1.5)
    page.get_by_role("tab", name="Saliency").click()
    return page.screenshot()


def small(png: bytes) -> Image.Image:
    """At most so wide."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.thumbnail((MAX_WIDTH_PX, MAX_WIDTH_PX))
    return image


if __name__ == "__main__":
    main()
