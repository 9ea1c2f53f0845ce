"""The files of the page, without a browser: served strictly, complete, and written by the house's rules."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.web import pages

SCRIPTS = sorted(pages.STATIC.rglob("*.js"))
LINKED = re.compile(r'(?:src|href)="(static/[^"]+)"')
IMPORTED = re.compile(r'from "\./([^"]+)"')


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = FastAPI(docs_url=None)
    app.include_router(pages.router)
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_allows_nothing_inline_and_nothing_from_elsewhere(client: TestClient, path: str) -> None:
    page = client.get(path)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script>|https?://(?!localhost)", page.text)


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_everything_linked_is_served(client: TestClient, page: str) -> None:
    linked = LINKED.findall(client.get(page).text)
    assert len(linked) > 3
    for path in linked:
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"].split(";")[0] in {"text/css", "text/javascript", "application/javascript"}


def test_a_kept_copy_is_asked_about_again(client: TestClient) -> None:
    first = client.get("/static/js/main.js")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/static/js/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("path", ["../main.py", "%2e%2e/main.py", "..%2fmain.py", "js", "none.js", "%00"])
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    assert client.get(f"/static/{path}").status_code == 404


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts(path: Path) -> None:
    """Short, silent, with text only ever as text, importing only what is there."""
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|console\.|https?://", text)
    for other in IMPORTED.findall(text):
        assert (path.parent / other).is_file(), other
