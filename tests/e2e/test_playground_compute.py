"""The page's slider of compute: less of the encoder is asked for, where it was computed shows, beside the full one."""

from collections.abc import Iterator

import httpx
import pytest

from testing.serving import Weights, live_app, settings_for
from tests.e2e.browsing import NO_CHROMIUM, TIMEOUT_MS, OpenPage, seen, send_photo

pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright: pip install playwright")
from playwright.sync_api import Page, expect

pytestmark = NO_CHROMIUM


@pytest.fixture(scope="module")
def url(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose set `gated` has a policy."""
    with live_app(settings_for(weights, tmp_path_factory.mktemp("compute") / "store")) as live:
        files = {"file": weights.upload("gated")}
        assert httpx.post(f"{live.url}/adapters", files=files, data={"name": "gated"}, timeout=60).status_code == 201
        yield live.url


def slide(page: Page, percent: int) -> None:
    with page.expect_response(lambda response: "/predict" in response.url) as asked:
        page.locator("#compute").fill(str(percent))
    assert asked.value.ok
    assert f"compute={percent / 100:g}&explain=compute" in asked.value.url


def test_only_sets_with_a_policy_have_the_slider(url: str, open_page: OpenPage) -> None:
    page = open_page(url)
    send_photo(page)
    expect(page.locator("#compute-row")).to_be_hidden()
    page.locator("#slots input[value=gated]").check()
    expect(page.locator("#compute-row")).to_be_visible()
    expect(page.locator("#compute-value")).to_have_text("100 %")


def test_less_is_computed_and_where_it_was_shows(url: str, open_page: OpenPage) -> None:
    page = open_page(url)
    page.locator("#slots input[value=gated]").check()
    send_photo(page)
    expect(page.get_by_role("tab", name="Computed")).to_have_count(0)
    slide(page, 50)
    page.get_by_role("tab", name="Computed").click(timeout=TIMEOUT_MS)
    painted = seen(page)
    assert painted["painted"] == painted["width"] * painted["height"]
    assert painted["colors"] > 2
    expect(page.locator("#code")).to_contain_text("compute=0.5")


def test_beside_the_full_one(url: str, open_page: OpenPage) -> None:
    page = open_page(url)
    page.locator("#slots input[value=gated]").check()
    send_photo(page)
    slide(page, 40)
    page.get_by_role("button", name="Beside the full one").click()
    expect(page.locator("#timings .timehead .ref")).to_have_text(["gated@1", "gated@1"], timeout=TIMEOUT_MS)
    expect(page.locator("#stage")).to_contain_text("gated@1 at ")
    assert [
        line.split(" -o ")[1] for line in (page.locator("#code").text_content() or "").splitlines() if " -o " in line
    ] == [
        "answer-gated-0.4.json",
        "answer-gated.json",
    ]
