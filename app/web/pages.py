"""The web pages: the playground, the API's page, and their files."""

from html import escape
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from app.http.byte_ranges import FileAnswer, Files
from app.http.forwarded import prefix_of

STATIC = Path(__file__).parent / "static"
CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "media-src blob:",  # a video that was dropped on the page
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asks again, and is answered 304: a new version is seen at once
}

router = APIRouter(include_in_schema=False)
_files = Files(directory=STATIC)


@router.get("/")
async def home(request: Request) -> Response:
    """The playground. It finds its files beside itself: under a prefix it says where that is, slash or none."""
    prefix = prefix_of(request.scope)
    return _under(prefix) if prefix else FileAnswer(STATIC / "index.html", headers=PAGE_HEADERS)


def _under(prefix: str) -> Response:
    """The page where a proxy shows it: at the prefix without a slash, its files would be beside the prefix."""
    text = (STATIC / "index.html").read_text(encoding="utf-8")
    page = text.replace("<head>", f'<head>\n<base href="{escape(prefix)}/">', 1)
    policy = CONTENT_POLICY.replace("base-uri 'none'", "base-uri 'self'")
    return HTMLResponse(page, headers={**PAGE_HEADERS, "Content-Security-Policy": policy})


@router.get("/docs")
async def docs() -> FileAnswer:
    """The API reference: made in the browser from /openapi.json, with nothing from elsewhere."""
    return FileAnswer(STATIC / "docs.html", headers=PAGE_HEADERS)


@router.get("/openapi.json")
async def schema(request: Request) -> Response:
    """The API for programs; where a proxy shows the server under a path, with that path."""
    document, prefix = request.app.openapi(), prefix_of(request.scope)
    return JSONResponse({**document, "servers": [{"url": prefix}]} if prefix else document)


@router.get("/favicon.ico")
async def favicon() -> FileAnswer:
    """The icon of the tab."""
    return FileAnswer(STATIC / "favicon.svg", media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})


@router.get("/static/{path:path}")
async def static_file(path: str, request: Request) -> Response:
    """A script, style sheet or picture of the page; nothing outside its folder is ever found."""
    response = await _files.get_response(path, request.scope)
    response.headers.update(PAGE_HEADERS)
    return response
