"""The files of the page: from a list, with a policy that lets them fetch from this server and nowhere else."""

from pathlib import Path
from typing import Final

from fastapi import HTTPException
from starlette.responses import Response

_FOLDER: Final = Path(__file__).parent / "pages"
_MEDIA_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Read once: what is not in it does not exist, so no name that a client sends becomes a path.
_FILES: Final = {path.name: path.read_bytes() for path in _FOLDER.iterdir() if path.suffix in _MEDIA_TYPES}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


async def show_page() -> Response:
    """The page."""
    return _answer("index.html")


async def show_file(name: str, kind: str) -> Response:
    """Something that it consists of."""
    return _answer(f"{name}.{kind}")


def _answer(name: str) -> Response:
    if name not in _FILES:
        raise HTTPException(404)
    return Response(_FILES[name], media_type=_MEDIA_TYPES[Path(name).suffix], headers=_HEADERS)
