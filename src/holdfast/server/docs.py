"""The interactive documentation: every byte from this machine, and no script within the page."""

import json
from importlib.resources import files
from typing import Any, Final

import fastapi_swagger.resources as swagger
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from holdfast.version import package_version

# The addresses are relative, so that the page works under any prefix.
_PAGE: Final = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Holdfast</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" type="image/png" href="docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START: Final = """\
window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: false,
  validatorUrl: null,
});
"""
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ASSETS: Final = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}


def add_docs(app: FastAPI) -> None:
    """Add `/docs`, its files and `/openapi.json`."""
    # Of the package only the files of the user interface are used.
    folder = files(swagger)
    schema: dict[str, Any] = {}

    async def show_page(_: Request) -> Response:
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})

    async def show_asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name == "start.js":
            return Response(_START, media_type="text/javascript")
        # From a list: a name never becomes a path.
        if name not in _ASSETS:
            raise HTTPException(404)
        return Response((folder / name).read_bytes(), media_type=_ASSETS[name])

    async def show_schema(_: Request) -> Response:
        if not schema:
            schema.update(openapi(app))
        return JSONResponse(schema)

    for path, show in (("/docs", show_page), ("/docs/{name}", show_asset), ("/openapi.json", show_schema)):
        app.add_api_route(path, show, include_in_schema=False, response_model=None)


def openapi(app: FastAPI) -> dict[str, Any]:
    """The description of the interface in OpenAPI 3.1."""
    described = get_openapi(
        title="Holdfast",
        version=package_version(),
        description="Sessions of web applications: begin, check, look after and end them.",
        routes=app.routes,
    )
    # Through JSON once: what two operations share must not be shared in the tree that is changed.
    schema: dict[str, Any] = json.loads(json.dumps(described))
    for path in schema["paths"].values():
        for operation in path.values():
            # The first sentence says more than the name of the function.
            operation["summary"] = operation["description"].partition(". ")[0].rstrip(".")
            _forbid_null_body(operation)
    return schema


def _forbid_null_body(operation: dict[str, Any]) -> None:
    """Describe an optional body as what it is: absent or an object, never the word `null`."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        if choices := content["schema"].get("anyOf"):
            (content["schema"],) = (each for each in choices if each != {"type": "null"})
