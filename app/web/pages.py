"""The web pages: the playground, the API's page, and their files."""

from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.http.byte_ranges import FileAnswer, Files

STATIC = Path(__file__).parent / "static"
CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
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
async def home() -> FileAnswer:
    """The playground."""
    return FileAnswer(STATIC / "index.html", headers=PAGE_HEADERS)


@router.get("/docs")
async def docs() -> FileAnswer:
    """The API reference: made in the browser from /openapi.json, with nothing from elsewhere."""
    return FileAnswer(STATIC / "docs.html", headers=PAGE_HEADERS)


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
