"""The address of the page says what is on screen, and brings it back."""

import pytest

from tests.e2e.browsing import NO_CHROMIUM, TIMEOUT_MS, OpenPage, send_photo, wait_done

pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright: pip install playwright")
from playwright.sync_api import expect

pytestmark = NO_CHROMIUM


def query(url: str) -> str:
    return url.partition("?")[2]


def test_the_address_follows(url: str, open_page: OpenPage) -> None:
    page = open_page(url)
    send_photo(page)
    wait_done(page, "default@1")
    assert query(page.url) == ""
    page.get_by_role("tab", name="Saliency").click()
    assert query(page.url) == "task=saliency"
    page.locator("#slots input[value=people]").check()
    wait_done(page, "people@1")
    assert query(page.url) == "adapter=people&task=saliency"
    page.get_by_role("switch").check()
    expect(page.locator("#timings .timehead .ref")).to_have_count(2, timeout=TIMEOUT_MS)
    assert query(page.url) == "adapter=people&compare=default&task=saliency"


def test_an_address_brings_it_back(url: str, open_page: OpenPage) -> None:
    page = open_page(f"{url}/?adapter=people&compare=default&task=saliency")
    expect(page.locator("#timings .timehead .ref")).to_have_text(["people@1", "default@1"], timeout=TIMEOUT_MS)
    expect(page.get_by_role("tab", name="Saliency")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("switch")).to_be_checked()


def test_what_is_not_there_is_the_default(url: str, open_page: OpenPage) -> None:
    page = open_page(f"{url}/?adapter=nobody&task=nothing&compute=7")
    wait_done(page, "default@1")
    expect(page.locator("#tabs [aria-selected=true]")).to_have_count(1)
