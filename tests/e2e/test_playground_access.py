"""The pages as axe-core judges them: every rule of WCAG 2.2 A and AA, and its good practice, in light and dark."""

from pathlib import Path

import pytest

from testing.serving import Weights
from tests.e2e.browsing import NO_CHROMIUM, OpenPage, send_photo, wait_done

pytest.importorskip("axe_playwright_python", reason="axe judges the pages: pip install axe-playwright-python")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

pytestmark = NO_CHROMIUM

THEMES = ("light", "dark")


def assert_usable(page: Page) -> None:
    """No violation of any severity, and rules were in fact applied."""
    found = Axe().run(page, options={"resultTypes": ["violations", "passes"]}).response
    assert len(found["passes"]) > 10
    assert [
        f"{rule['id']} ({rule['impact']}): {node['target']} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ] == []


@pytest.mark.parametrize("theme", THEMES)
class TestAccess:
    def test_playground(self, url: str, open_page: OpenPage, theme: str) -> None:
        page = open_page(url, color_scheme=theme)
        send_photo(page)
        wait_done(page, "default@1")
        assert_usable(page)
        page.get_by_role("switch").check()
        expect(page.locator("#timings .timehead .ref")).to_have_count(2)
        page.get_by_role("tab", name="All").click()
        assert_usable(page)

    def test_problem(self, url: str, open_page: OpenPage, theme: str) -> None:
        page = open_page(url, color_scheme=theme, refusals=(415,))
        page.set_input_files("#photo-file", {"name": "no.jpg", "mimeType": "image/jpeg", "buffer": b"not a photo"})
        expect(page.locator("#problem")).to_be_visible()
        assert_usable(page)

    def test_sets_and_dialog(self, url: str, weights: Weights, open_page: OpenPage, theme: str, tmp_path: Path) -> None:
        page = open_page(f"{url}/#sets", color_scheme=theme, refusals=(422,))
        for name, verdict in (("cats", "taken"), ("dogs", "taken"), ("foreign", "refused")):
            page.fill("#set-name", f"{theme}-pets")
            page.set_input_files("#set-file", weights.uploads / f"{name}.safetensors")
            expect(page.locator(f".upload-entry.{verdict}").first).to_contain_text(name)
        card = page.get_by_role("article", name=f"Adapter set {theme}-pets")
        card.get_by_role("button", name=f"Pin {theme}-pets").click()
        expect(card.locator(".mark-pinned")).to_be_visible()
        card.locator("summary").click()
        assert_usable(page)
        card.get_by_role("button", name=f"Delete {theme}-pets", exact=True).click()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert_usable(page)

    def test_phone(self, url: str, open_page: OpenPage, theme: str) -> None:
        page = open_page(url, color_scheme=theme, viewport={"width": 360, "height": 740})
        wait_done(page, "default@1")
        assert_usable(page)

    def test_api_reference(self, url: str, open_page: OpenPage, theme: str) -> None:
        page = open_page(f"{url}/docs", color_scheme=theme)
        page.locator("#operations summary", has_text="/predict").click()
        assert_usable(page)
