"""What a browser meets first."""

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse

STATIC = Path(__file__).parent.parent / "static"
CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; base-uri 'none'; form-action 'none'"

router = APIRouter(include_in_schema=False)


@router.get("/")
async def home() -> FileResponse:
    """What this server is, and where to go from here."""
    return FileResponse(STATIC / "index.html", headers={"Content-Security-Policy": CONTENT_POLICY})


@router.get("/favicon.ico")
async def favicon() -> FileResponse:
    """The icon of the tab."""
    return FileResponse(STATIC / "favicon.svg", media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})
