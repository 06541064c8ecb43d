"""Requests without surprises: what two parsers could read differently is refused before anyone reads it.

Duplicate keys, NaN and infinities, numbers no session needs, deep nesting, bytes that are not UTF-8, bodies
that are not an object, content types that are not JSON, and query parameters a route does not declare.
"""

import json
import math
import re
from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any, Final, get_args, get_type_hints
from urllib.parse import unquote_to_bytes

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Query
from fastapi.routing import APIRoute
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from holdfast.sessions.errors import HoldfastError
from holdfast.web.responses import Refusal, error_answer

MAX_DEPTH: Final = 32
"""Above the depth of metadata, which gives the better error, and far below what recursion survives."""
_MAX_NUMBER_LENGTH: Final = 64
_SHOWABLE_FIELD: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")

# A string whole, or one bracket: what is inside strings does not nest.
_NESTING: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def parse_object(body: bytes) -> dict[str, Any]:
    """The object that a body holds. Raises `Refusal` (400) for anything else."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal(400, "malformed_json", "the body is not UTF-8") from None
    _check_depth(text)
    try:
        value = _decoder.decode(text)
    except ValueError:
        # Its message quotes nothing, but its `doc` holds the body: let go of it.
        raise Refusal(400, "malformed_json", "the body is not JSON") from None
    if not isinstance(value, dict):
        raise Refusal(400, "malformed_json", "the body is not a JSON object")
    return value


def _check_depth(text: str) -> None:
    depth = 0
    for token in _NESTING.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise Refusal(400, "malformed_json", f"the body is nested deeper than {MAX_DEPTH}")
        elif token[0] in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise Refusal(400, "malformed_json", "an object names one key twice")
    return value


def _integer(text: str) -> int:
    if len(text) > _MAX_NUMBER_LENGTH:
        raise Refusal(400, "malformed_json", "a number is too long")
    return int(text)


def _float(text: str) -> float:
    value = float(text) if len(text) <= _MAX_NUMBER_LENGTH else math.inf
    if not math.isfinite(value):
        raise Refusal(400, "malformed_json", "a number is too long or too large")
    return value


def _constant(_: str) -> float:
    raise Refusal(400, "malformed_json", "NaN and Infinity are not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)


def _is_json(content_type: str | None) -> bool:
    if content_type is None:
        return False
    message = Message()
    message["content-type"] = content_type
    subtype = message.get_content_subtype()
    charset = message.get_param("charset", "utf-8")
    return (
        message.get_content_maintype() == "application"
        and (subtype == "json" or subtype.endswith("+json"))
        and isinstance(charset, str)
        and charset.lower() in ("utf-8", "utf8")
    )


class StrictRequest(Request):
    """A request whose `json()` is strict."""

    async def json(self) -> Any:
        """The object in the body. Raises `Refusal`."""
        return parse_object(await self.body())


class StrictRoute(APIRoute):
    """A route that takes what it declares and nothing else, and answers errors by the one table."""

    def get_route_handler(self) -> Handler:
        """The handler behind the checks."""
        handle = super().get_route_handler()
        takes_body = self.body_field is not None
        known = _query_parameters(self.endpoint)

        async def strict(original: Request) -> Response:
            request = StrictRequest(original.scope, original.receive)
            try:
                _check_query(request, known)
                await _check_body(request, takes_body)
                return await handle(request)
            except RequestValidationError as error:
                return error_answer(request.scope, Refusal(422, "invalid", _first_problem(error)))
            except (HoldfastError, HTTPException) as error:
                return error_answer(request.scope, error)

        return strict

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As any route, but a `user` in the path is taken from the bytes that the client sent."""
        if scope["type"] == "http" and scope["path"].endswith("\n"):
            # The end of a route's pattern would match before it, and the path would pass for another one.
            return Match.NONE, {}
        if ":user}" not in self.path:
            return super().matches(scope)
        path = _unambiguous_path(scope)
        if path is None:
            return Match.NONE, {}
        return super().matches({**scope, "path": path})


def _query_parameters(endpoint: Callable[..., Any]) -> set[str]:
    """The query parameters of an endpoint. Our dependencies declare none."""
    hints = get_type_hints(endpoint, include_extras=True)
    return {name for name, hint in hints.items() if any(isinstance(each, Query) for each in get_args(hint))}


def _check_query(request: Request, known: set[str]) -> None:
    names = [name for name, _ in request.query_params.multi_items()]
    if len(set(names)) != len(names):
        raise Refusal(422, "invalid", "a query parameter is given twice")
    if not known.issuperset(names):
        raise Refusal(422, "invalid", f"unknown query parameter; known here: {', '.join(sorted(known)) or 'none'}")


async def _check_body(request: Request, takes_body: bool) -> None:
    body = await request.body()
    if not body:
        return
    if not takes_body:
        # Many clients cannot send a POST without at least an empty object.
        if body.strip() != b"{}":
            raise Refusal(422, "invalid", "this route takes no body")
    elif not _is_json(request.headers.get("content-type")):
        raise Refusal(415, "unsupported_media_type", "the body must be application/json in UTF-8")


def _first_problem(error: RequestValidationError) -> str:
    """A sentence about the first thing that is wrong. It repeats no value: that may be a token."""
    problem = error.errors()[0]
    place = ".".join(
        part if isinstance(part, str) and _SHOWABLE_FIELD.fullmatch(part) else "?"
        for part in problem["loc"]
        if not isinstance(part, int)
    )
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown field"
    return f"{place}: {problem['msg']}"


class _UserConvertor(Convertor[str]):
    """A user id in a path: any text, slashes included, decoded exactly once."""

    regex = "(?s:.+)"

    def convert(self, value: str) -> str:
        return value.replace("%2F", "/").replace("%25", "%")

    def to_string(self, value: str) -> str:
        return value.replace("%", "%25").replace("/", "%2F")


register_url_convertor("user", _UserConvertor())


def _unambiguous_path(scope: Scope) -> str | None:
    """The decoded path in which an encoded slash is still `%2F` and an encoded percent sign still `%25`.

    Without that, erasing the user `a/sessions` (sent as `a%2Fsessions`) could not be told from revoking the
    sessions of `a`. `None` when the bytes are not UTF-8.
    """
    raw = scope.get("raw_path")
    if not isinstance(raw, bytes):
        return str(scope["path"]).replace("%", "%25")
    kept = re.sub(rb"%2[Ff]", b"%252F", re.sub(rb"%25", b"%2525", raw.partition(b"?")[0]))
    try:
        return unquote_to_bytes(kept).decode("utf-8")
    except UnicodeDecodeError:
        return None
