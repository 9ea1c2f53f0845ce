"""Every button of the page that the tests of whole stories do not press, and how often the page asks the server."""

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from testing.serving import Weights, live_app, settings_for
from tests.e2e.browsing import (
    HEIGHT,
    JPEG,
    NO_CHROMIUM,
    PHOTO,
    TIMEOUT_MS,
    WIDTH,
    OpenPage,
    seen,
    send_photo,
    wait_done,
)

pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright: pip install playwright")
from playwright.sync_api import FilePayload, Locator, Page, Request, Route, expect

pytestmark = NO_CHROMIUM

DROP = """async (target, { name, type, bytes }) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, { type }));
  target.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""
PASTE = """({ name, type, bytes }) => {
  const clipboardData = new DataTransfer();
  clipboardData.items.add(new File([new Uint8Array(bytes)], name, { type }));
  dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
}"""


def saved(page: Page, button: Locator) -> tuple[str, bytes]:
    """Name and content of the file that a button gives."""
    with page.expect_download() as download:
        button.click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def card_of(page: Page, name: str) -> Locator:
    return page.get_by_role("article", name=f"Adapter set {name}")


def upload(page: Page, path: Path) -> None:
    page.set_input_files("#set-file", path)
    expect(page.locator(".upload-entry.taken").first).to_contain_text(path.stem, timeout=TIMEOUT_MS)


class TestButtons:
    def test_each_photo_is_predicted_once(self, url: str, open_page: OpenPage) -> None:
        page = open_page(f"{url}/livez")
        asked: list[bytes | None] = []
        page.on("request", lambda r: asked.append(r.post_data_buffer) if "/predict" in r.url else None)
        page.goto(url)
        wait_done(page, "default@1")  # of the sample
        assert len(asked) == 1
        send_photo(page)
        wait_done(page, "default@1")
        page.locator("#nav-sets").click()  # asks for the sets again, and back
        expect(card_of(page, "default")).to_be_visible()
        page.locator("#nav-try").click()
        page.get_by_role("tab", name="All").click()
        assert len(asked) == 2
        assert page.locator("#timings .timehead .heat").count() == 1
        assert page.locator("#timings .history .heat").count() == 2  # the sample's run and the photo's

    def test_a_photo_chosen_before_the_sets_are_known_is_predicted_once(self, url: str, open_page: OpenPage) -> None:
        page = open_page(f"{url}/livez")
        asked: list[Request] = []
        held: list[Route] = []
        page.on("request", lambda request: asked.append(request) if "/predict" in request.url else None)
        page.route("**/adapters", lambda route: held.append(route))
        page.goto(url)
        send_photo(page)
        for route in held:
            route.continue_()
        page.unroute("**/adapters")
        expect(page.locator("#slots input[value=default]")).to_be_checked()
        page.wait_for_timeout(300)  # in which a second one would be sent
        wait_done(page, "default@1")
        assert len(asked) == 1

    def test_npz(self, url: str, open_page: OpenPage) -> None:
        page = open_page(url)
        send_photo(page)
        name, content = saved(page, page.locator("#downloads").get_by_text("npz", exact=True))
        assert name == "disc-default.npz"
        answer = httpx.post(f"{url}/predict?format=npz", content=PHOTO, headers=JPEG, timeout=30).content
        with np.load(io.BytesIO(content)) as arrays, np.load(io.BytesIO(answer)) as expected:
            assert set(arrays) == set(expected)
            assert arrays["semseg"].shape == (HEIGHT, WIDTH)
            assert all(np.array_equal(arrays[key], expected[key]) for key in expected)

    def test_load_unload_fetch(self, url: str, weights: Weights, open_page: OpenPage) -> None:
        page = open_page(f"{url}/#sets")
        upload(page, weights.uploads / "birds.safetensors")
        card = card_of(page, "birds")
        for button, words, tier in (("Load", "in memory", "device"), ("Unload", "on disk", "disk")):
            card.get_by_role("button", name=f"{button} birds", exact=True).click()
            expect(card.locator(".tier-words")).to_have_text(words, timeout=TIMEOUT_MS)
            assert httpx.get(f"{url}/adapters/birds").json()["tier"] == tier
        card.locator("summary").click()
        name, content = saved(page, card.get_by_role("button", name="Fetch the file of birds revision 1"))
        assert (name, content) == ("birds-1.safetensors", weights.upload("birds"))

    def test_one_revision_is_deleted(self, url: str, weights: Weights, open_page: OpenPage) -> None:
        page = open_page(f"{url}/#sets")
        page.locator("#set-activate").uncheck()
        for number, content in enumerate(("cats", "dogs"), start=1):
            page.fill("#set-name", "zoo")
            page.set_input_files("#set-file", weights.uploads / f"{content}.safetensors")
            expect(page.locator(".upload-entry.taken").first).to_contain_text(f"zoo@{number}", timeout=TIMEOUT_MS)
        expect(page.locator(".upload-entry").first).to_contain_text("zoo@1 stays current")
        page.get_by_role("button", name="Dismiss dogs.safetensors").click()
        expect(page.locator(".upload-entry")).to_have_count(1)
        card = card_of(page, "zoo")
        card.locator("summary").click()
        card.get_by_role("button", name="Delete zoo revision 2").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(card.locator("tbody tr")).to_have_count(1)
        assert [r["revision"] for r in httpx.get(f"{url}/adapters/zoo").json()["revisions"]] == [1]
        httpx.delete(f"{url}/adapters/zoo").raise_for_status()
        page.get_by_role("button", name="Refresh").click()
        expect(card).to_have_count(0)

    def test_dropped_and_pasted(self, url: str, weights: Weights, open_page: OpenPage) -> None:
        page = open_page(url)
        wait_done(page, "default@1")
        photo = {"type": "image/jpeg", "bytes": list(PHOTO)}
        page.locator("#stage").evaluate(DROP, photo | {"name": "dropped.jpg"})
        expect(page.locator("#code")).to_contain_text("dropped.jpg")
        page.evaluate(PASTE, photo | {"name": "pasted.jpg"})
        expect(page.locator("#code")).to_contain_text("pasted.jpg")
        page.get_by_role("button", name="Cat, close").click()
        expect(page.locator("#code")).to_contain_text(f"curl -fsSo 'chelsea.jpg' '{url}/static/samples/chelsea.jpg'")
        page.locator("#nav-sets").click()
        file = {"name": "cats.safetensors", "type": "", "bytes": list(weights.upload("cats"))}
        page.locator("#view-sets").evaluate(DROP, file)
        expect(page.locator(".upload-entry.taken")).to_contain_text("cats@1")

    def test_a_format_the_browser_cannot_show(self, url: str, open_page: OpenPage) -> None:
        page = open_page(url)
        with io.BytesIO() as buffer:
            Image.open(io.BytesIO(PHOTO)).save(buffer, "TIFF")
            photo = FilePayload(name="scan.tif", mimeType="image/tiff", buffer=buffer.getvalue())
        page.set_input_files("#photo-file", photo)
        expect(page.locator("#photo-fact")).to_contain_text("not shown by this browser")
        expect(page.locator("#code")).to_contain_text("scan.tif")
        page.get_by_role("tab", name="Saliency").click()
        assert seen(page)["painted"] > 0

    def test_tasks_exchange_opacity_copy(self, url: str, open_page: OpenPage) -> None:
        page = open_page(url, permissions=["clipboard-read", "clipboard-write"])
        send_photo(page)
        page.locator("#tasks input[value=normals]").uncheck()
        expect(page.locator("#code")).to_contain_text("tasks=")
        expect(page.locator("#code")).not_to_contain_text("normals")
        expect(page.get_by_role("tab", name="Saliency")).to_be_visible()
        expect(page.get_by_role("tab", name="Normals")).to_have_count(0)
        page.get_by_role("switch").check()
        heads = page.locator("#timings .timehead .ref")
        expect(heads).to_have_count(2)
        before = heads.all_text_contents()
        page.get_by_role("button", name="Exchange").click()
        expect(heads).to_have_text(before[::-1])
        page.locator("#opacity").fill("0")
        expect(page.locator("#opacity-value")).to_have_text("0 %")
        expect(page.locator("#frames .layer-a").first).to_have_css("opacity", "0")
        page.get_by_role("button", name="Copy").click()
        expect(page.locator("#toast")).to_contain_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == page.locator("#code").text_content()

    def test_the_code_of_a_comparison_asks_for_both_sets(self, url: str, open_page: OpenPage, tmp_path: Path) -> None:
        page = open_page(url)
        send_photo(page)
        page.get_by_role("switch").check()
        page.locator("#compare-b").select_option("people")
        expect(page.locator("#timings .timehead .ref")).to_have_text(["default@1", "people@1"], timeout=TIMEOUT_MS)
        command = page.locator("#code").text_content() or ""
        assert [line.split(" -o ")[1] for line in command.splitlines() if " -o " in line] == [
            "answer-default.json",
            "answer-people.json",
        ]
        page.get_by_role("tab", name="Python").click()
        program = page.locator("#code").text_content() or ""
        (tmp_path / "disc.jpg").write_bytes(PHOTO)
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=30, capture_output=True)
        for name in ("default", "people"):
            parameters = f"tasks=saliency&adapter={name}&format=png"
            answer = httpx.post(f"{url}/predict?{parameters}", content=PHOTO, headers=JPEG, timeout=30)
            files = (tmp_path / f"{name}-saliency.png", io.BytesIO(answer.content))
            theirs, ours = (np.asarray(Image.open(file)).astype(np.int16) for file in files)
            # of 255: with other tasks beside it a map may differ in the last digit
            np.testing.assert_allclose(theirs, ours, rtol=0, atol=1)

    def test_a_failed_request_is_tried_again_by_a_button(self, url: str, open_page: OpenPage) -> None:
        page = open_page(f"{url}/livez", refusals=(503,))
        problem = {"title": "Queue full", "status": 503, "detail": "256 requests wait already"}
        busy = {"status": 503, "headers": {"Retry-After": "2"}, "content_type": "application/problem+json"}
        page.route("**/predict*", lambda route: route.fulfill(**busy, body=json.dumps(problem)))
        page.goto(url)
        box = page.locator("#problem")
        expect(box).to_contain_text("256 requests wait already. The server asks to wait 2 s.")
        page.unroute("**/predict*")
        box.get_by_role("button", name="Try again").click()
        wait_done(page, "default@1")
        expect(box).to_be_hidden()


def test_the_key_button_changes_and_forgets_the_key(weights: Weights, tmp_path: Path, open_page: OpenPage) -> None:
    keys = ",".join(
        f"{name}:{hashlib.sha256(key.encode()).hexdigest()}:{scopes}"
        for name, key, scopes in (
            ("reader", "reader-key", "predict+adapters:read"),
            ("keeper", "keeper-key", "predict+adapters:read+adapters:write"),
        )
    )
    with live_app(settings_for(weights, tmp_path / "store", api_keys=keys)) as live:
        page = open_page(live.url, refusals=(401, 403))
        dialog = page.get_by_role("dialog")

        def enter(key: str) -> None:
            dialog.get_by_label("Key", exact=True).fill(key)
            dialog.get_by_role("button", name="Use key").click()
            expect(dialog).to_be_hidden()

        expect(dialog).to_be_visible()
        enter("reader-key")
        wait_done(page, "default@1")
        page.locator("#nav-sets").click()
        pin = page.get_by_role("button", name="Pin people")
        pin.click()
        expect(page.locator("#sets-problem")).to_contain_text("adapters:write")
        page.get_by_role("button", name="Key", exact=True).click()
        dialog.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Key", exact=True).click()
        enter("keeper-key")
        expect(page.locator("#sets-problem")).to_be_hidden()
        pin.click()
        expect(page.get_by_role("button", name="Unpin people")).to_be_visible()
        page.get_by_role("button", name="Key", exact=True).click()
        dialog.get_by_role("button", name="Forget key").click()
        page.wait_for_function("sessionStorage.length === 0")  # when the dialog has closed
        page.get_by_role("button", name="Refresh").click()
        expect(dialog).to_contain_text("an API key is needed")
