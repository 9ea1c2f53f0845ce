"""Tiny weights for server processes; a browser for tests of the page."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testing.serving import ServerProcess, Weights, make_weights
from tests.e2e.browsing import CHROMIUM, FLAGS, TIMEOUT_MS, OpenPage

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these start server processes or browsers."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return make_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="class")
def url(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server for all tests of a class, because a start takes seconds."""
    server = ServerProcess(weights, tmp_path_factory.mktemp("playground") / "store")
    try:
        server.wait_ready()
        yield server.url
    finally:
        server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: "Browser") -> Iterator[OpenPage]:
    """Opens pages, and fails the test if one of them said anything on its console that was not to be expected."""
    said: list[str] = []
    expected: set[int] = set()
    contexts = []

    def open_one(url: str, *, refusals: tuple[int, ...] = (), **options: Any) -> "Page":
        expected.update(refusals)  # Chromium itself logs every answer of 400 and more
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(url)
        return page

    yield open_one
    for context in contexts:
        context.close()
    logged = re.compile(rf"Failed to load resource.* ({'|'.join(map(str, expected)) or 'none'}) ")
    assert [words for words in said if not logged.search(words)] == []
