"""The page at / as people use it: headless Chromium against the server as a process of its own."""

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from app.answers.vivid import vivid_colors
from testing.serving import Weights, live_app, settings_for
from tests.e2e.browsing import (
    HEIGHT,
    JPEG,
    NO_CHROMIUM,
    PHOTO,
    TIMEOUT_MS,
    WIDTH,
    OpenPage,
    no_sideways_scrolling,
    seen,
    send_photo,
    wait_done,
)

pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright: pip install playwright")
from playwright.sync_api import FilePayload, expect

pytestmark = NO_CHROMIUM


class TestPage:
    """One server for all of it, because a start takes seconds."""

    def test_a_photo_becomes_maps(self, url: str, open_page: OpenPage) -> None:
        page = open_page(url)
        send_photo(page)
        wait_done(page, "default@1")
        expect(page.get_by_role("tab", name="All")).to_be_visible()
        page.get_by_role("tab", name="Saliency").click()
        found = seen(page)
        assert (found["width"], found["height"]) == (WIDTH, HEIGHT)
        assert 0 < found["painted"] <= WIDTH * HEIGHT  # what is kept of the photo is clear
        page.get_by_role("tab", name="Segmentation").click()
        page.get_by_role("button", name="Show all classes").click()
        assert seen(page)["painted"] == WIDTH * HEIGHT
        page.locator("#legend .class-row").first.click()  # the most frequent class is hidden...
        assert seen(page)["painted"] < WIDTH * HEIGHT
        page.locator("#legend .only").first.click()  # ...and now the only one
        assert 0 < seen(page)["painted"] <= WIDTH * HEIGHT
        assert seen(page)["colors"] == 1
        lines = seen(page, "outline-a")
        assert 0 < lines["painted"] < lines["width"] * lines["height"] // 2
        page.get_by_role("tab", name="All").click()
        assert page.locator("#frames figure").count() == 4
        assert page.locator("#timings .timebar span").count() >= 3
        expect(page.locator("#timings .timehead .heat").first).to_have_text("hot", timeout=TIMEOUT_MS)

    def test_the_probe_reads_what_the_server_sends(self, url: str, open_page: OpenPage) -> None:
        """By keyboard: from the middle, one step to the right; compared with the server's own PNGs and names."""
        page = open_page(url)
        send_photo(page)
        page.locator("#stage").focus()
        page.keyboard.press("ArrowRight")
        said = page.locator("#spoken").text_content() or ""
        place = re.match(r"x (\d+), y (\d+)", said)
        assert place is not None, said
        x, y = map(int, place.groups())
        assert (x, y) == (WIDTH // 2 + WIDTH // 40, HEIGHT // 2)
        pixel = {}
        for task in ("semseg", "saliency", "normals"):
            answer = httpx.post(f"{url}/predict?tasks={task}&format=png", content=PHOTO, headers=JPEG, timeout=30)
            pixel[task] = np.asarray(Image.open(io.BytesIO(answer.content)))[y, x]
        classes = httpx.get(f"{url}/adapters/default").json()["tasks"]["semseg"]["classes"]
        assert f"Segmentation {classes[pixel['semseg']]['name']};" in said
        assert f"Saliency {pixel['saliency'] / 255:.2f}" in said
        normal = pixel["normals"] / 127.5 - 1
        words = "  ".join(f"{value:+.2f}".replace("-", "−") for value in normal / np.linalg.norm(normal))
        assert f"Normals {words}" in said

    def test_files_and_code(self, url: str, open_page: OpenPage, tmp_path: Path) -> None:
        """What is shown as a program gives the same files when it is run."""
        page = open_page(url)
        send_photo(page)
        page.get_by_role("tab", name="Saliency").click()
        saved = {}
        for name, ending in (("map", "saliency.png"), ("picture", "seen.png"), ("zip", ".zip"), ("JSON", ".json")):
            with page.expect_download() as download:
                page.locator("#downloads").get_by_text(name, exact=True).click()
            assert download.value.suggested_filename.endswith(ending)
            saved[name] = Path(download.value.path()).read_bytes()
        assert Image.open(io.BytesIO(saved["picture"])).size == (WIDTH, HEIGHT)
        with zipfile.ZipFile(io.BytesIO(saved["zip"])) as archive:
            assert archive.read("saliency.png") == saved["map"]
        (tmp_path / "disc.jpg").write_bytes(PHOTO)
        if shutil.which("curl"):
            command = page.locator("#code").text_content() or ""
            subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, timeout=30)
            assert json.loads((tmp_path / "answer.json").read_bytes())["image"] == {"width": WIDTH, "height": HEIGHT}
        page.get_by_role("tab", name="Python").click()
        program = page.locator("#code").text_content() or ""
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=30, capture_output=True)
        assert (tmp_path / "saliency.png").read_bytes() == saved["map"]

    def test_colours_are_those_of_the_service(self, url: str, open_page: OpenPage) -> None:
        names = ["background", "person", "cat", "Straße", "class 7", "person"]
        ask = f"async names => (await import('{url}/static/js/look.js')).vividColors(names)"
        assert open_page(url).evaluate(ask, names) == vivid_colors(tuple(names))[: len(names)].tolist()

    def test_one_task_needs_no_tab_for_all(self, url: str, open_page: OpenPage) -> None:
        page = open_page(url)
        send_photo(page)
        page.get_by_role("tab", name="All").click()
        for task in ("semseg", "human_parts", "normals"):
            page.locator(f"#tasks input[value={task}]").uncheck()
        expect(page.locator("#tabs [role=tab]")).to_have_count(1, timeout=TIMEOUT_MS)
        expect(page.locator("#tabs [role=tab]")).to_have_attribute("aria-selected", "true")
        expect(page.locator("#frames > .picture")).to_have_count(1)

    def test_switch_and_compare(self, url: str, open_page: OpenPage) -> None:
        page = open_page(url)
        send_photo(page)
        page.locator("#slots input[value=people]").check()
        wait_done(page, "people@1")
        expect(page.locator("#tabs [role=tab]")).to_have_text(["Human parts", "Saliency", "All"])
        page.get_by_role("tab", name="Saliency").click()
        page.get_by_role("switch").check()
        expect(page.locator("#timings .timehead .ref")).to_have_text(["people@1", "default@1"], timeout=TIMEOUT_MS)
        line = page.get_by_role("slider", name="Line between people@1 and default@1")
        expect(line).to_have_attribute("aria-valuenow", "50")
        line.focus()
        for key, percent in (("ArrowRight", 52), ("PageDown", 42), ("End", 100), ("Home", 0)):
            page.keyboard.press(key)
            expect(line).to_have_attribute("aria-valuenow", str(percent))
        shown = "layer => getComputedStyle(layer).clipPath"
        assert page.locator(".layer-b").evaluate(shown) in ("inset(0px 0px 0px 0%)", "inset(0px)")
        box = page.locator("#frames .picture").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 5, box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 50)
        page.mouse.up()
        expect(line).to_have_attribute("aria-valuenow", "75")

    def test_sets_are_uploaded_activated_and_deleted(self, url: str, weights: Weights, open_page: OpenPage) -> None:
        page = open_page(f"{url}/#sets", refusals=(422,))
        page.set_input_files("#set-file", weights.uploads / "foreign.safetensors")
        refusal = page.locator(".upload-entry.refused")
        expect(refusal).to_contain_text("refused", timeout=TIMEOUT_MS)
        expect(refusal).to_contain_text("backbone")
        for revision, content in ((1, "cats"), (2, "dogs")):
            page.fill("#set-name", "pets")
            page.set_input_files("#set-file", weights.uploads / f"{content}.safetensors")
            expect(page.locator(".upload-entry.taken").first).to_contain_text(f"pets@{revision}", timeout=TIMEOUT_MS)
        card = page.get_by_role("article", name="Adapter set pets")
        expect(card).to_contain_text("revision 2")
        card.get_by_role("button", name="Roll back to 1: pets").click()
        expect(card.locator(".revision-mark")).to_have_text("revision 1")
        card.locator("summary").click()
        card.get_by_role("button", name="Activate pets revision 2").click()
        expect(card.locator(".revision-mark")).to_have_text("revision 2")
        assert httpx.get(f"{url}/adapters/pets").json()["current"] == 2
        card.get_by_role("button", name="Pin pets").click()
        expect(card.locator(".mark-pinned")).to_be_visible()
        expect(card.locator(".tier-words")).to_contain_text("in memory")
        card.get_by_role("button", name="Unpin pets").click()
        card.get_by_role("button", name="Try pets revision 1 in the playground").click()
        wait_done(page, "pets@1")
        page.locator("#nav-sets").click()
        card.get_by_role("button", name="Delete pets", exact=True).click()
        page.get_by_role("button", name="Keep it").click()
        expect(card).to_be_visible()
        card.get_by_role("button", name="Delete pets", exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(card).to_have_count(0)

    def test_errors_are_said_in_words(self, url: str, open_page: OpenPage) -> None:
        page = open_page(url, refusals=(415, 422))
        send_photo(page)
        page.set_input_files("#photo-file", FilePayload(name="no.jpg", mimeType="image/jpeg", buffer=b"not a photo"))
        expect(page.locator("#problem")).to_contain_text("request", timeout=TIMEOUT_MS)
        assert len(page.locator("#problem p").first.text_content() or "") > 20
        send_photo(page)
        expect(page.locator("#problem")).to_be_hidden()

    def test_phone_width_and_both_themes(self, url: str, open_page: OpenPage) -> None:
        page = open_page(url, viewport={"width": 360, "height": 740}, color_scheme="dark")
        wait_done(page, "default@1")  # the page begins with a sample
        for tab in ("Normals", "All"):
            page.get_by_role("tab", name=tab).click()
            no_sideways_scrolling(page)
        ground = "getComputedStyle(document.body).backgroundColor"
        dark = page.evaluate(ground)
        page.get_by_role("button", name="Switch between light and dark").click()
        assert page.evaluate(ground) != dark
        page.locator("#nav-sets").click()
        expect(page.get_by_role("article", name="Adapter set default")).to_be_visible()
        no_sideways_scrolling(page)


def test_a_key_is_asked_for(weights: Weights, tmp_path: Path, open_page: OpenPage) -> None:
    digest = hashlib.sha256(b"a-long-key").hexdigest()
    keys = f"desk:{digest}:predict+adapters:read"
    with live_app(settings_for(weights, tmp_path / "store", api_keys=keys)) as live:
        page = open_page(live.url, refusals=(401, 403))
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("an API key is needed", timeout=TIMEOUT_MS)
        dialog.get_by_label("Key", exact=True).fill("wrong")
        page.keyboard.press("Enter")
        expect(dialog).to_contain_text("not known")
        dialog.get_by_label("Key", exact=True).fill("a-long-key")
        page.keyboard.press("Enter")
        wait_done(page, "default@1")
        assert "a-long-key" not in (page.locator("#code").text_content() or "")
        page.locator("#nav-sets").click()
        page.get_by_role("button", name="Pin people").click()
        expect(page.locator("#sets-problem")).to_contain_text("lacks the scope 'adapters:write'")


def test_a_photo_that_is_too_large_can_be_made_smaller(weights: Weights, tmp_path: Path, open_page: OpenPage) -> None:
    limit = 300_000
    with io.BytesIO() as buffer:
        Image.open(io.BytesIO(PHOTO)).resize((3000, 2250)).save(buffer, "PNG", compress_level=0)
        photo = FilePayload(name="large.png", mimeType="image/png", buffer=buffer.getvalue())
    assert len(photo["buffer"]) > limit
    with live_app(settings_for(weights, tmp_path / "store", max_body_bytes=limit)) as live:
        page = open_page(live.url, refusals=(413,))
        wait_done(page, "default@1")
        page.set_input_files("#photo-file", photo)
        page.get_by_role("button", name="Make it smaller and send it").click(timeout=TIMEOUT_MS)
        expect(page.locator("#photo-fact")).to_contain_text("large.jpg · 1536 × 1152 px", timeout=TIMEOUT_MS)
        expect(page.locator("#code")).to_contain_text("large.jpg", timeout=TIMEOUT_MS)
        expect(page.locator("#problem")).to_be_hidden()
        assert seen(page)["painted"] > 0


def test_the_api_reference_comes_from_this_server_alone(weights: Weights, tmp_path: Path, open_page: OpenPage) -> None:
    with live_app(settings_for(weights, tmp_path / "store")) as live:
        page = open_page(f"{live.url}/livez")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{live.url}/docs")
        described = live.client.get("/openapi.json").json()
        operations = page.locator("#operations details")
        expect(operations).to_have_count(sum(len(methods) for methods in described["paths"].values()))
        expect(page.locator("#schemas details")).to_have_count(len(described["components"]["schemas"]))
        page.locator("#operations summary", has_text="/predict").click()
        shown = page.locator("#operations details[open]")
        for words in ("deadline_ms", "overlay", "multipart/form-data", "images", "429", "504"):
            expect(shown).to_contain_text(words)
        if shutil.which("curl"):
            (tmp_path / "photo.jpg").write_bytes(PHOTO)
            commands = page.locator("#operations details > div > pre").all_text_contents()
            assert len(commands) == operations.count()
            for path in ("/predict'", "/adapters/default'", "/v2/models/default/infer'"):
                command = next(one for one in commands if one.endswith(path))
                ran = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, timeout=30, check=False)
                answer = json.loads(ran.stdout)
                assert "default" in str(answer) or "data[0] is not base64" in str(answer), (command, answer)
        shown.get_by_role("link", name="Problem").first.click()
        expect(page.locator("details[id='schema-Problem']")).to_have_attribute("open", "")
        no_sideways_scrolling(page)
        assert len(asked) >= 5
        assert [url for url in asked if not url.startswith(live.url)] == []
