"""Spans for OpenTelemetry, when its API is installed: one for each store call, and one for each batch.

A span is made once its work is done, with the times of its beginning and its end: no context manager stands in the
way of a call. A batch belongs to no one of its callers, so it has a link to each, and begins a trace of its own.
Attributes are kinds, numbers and names of errors; never SQL, values, tokens or the text of an error.
"""

import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, cast

from holdfast.sessions.observer import Observer

NAME: Final = "holdfast"
# So many links at most: a batch has up to 256 calls, and an exporter drops what is beyond its own limit anyway.
MOST_LINKS: Final = 128


def spans() -> "Spans | None":
    """An observer that makes spans with the tracer provider of the process.

    `None` without OpenTelemetry's API, and while no provider is set: others bring the API along, and to ask it for
    every joined call what nobody collects would cost a microsecond each.
    """
    try:
        api = import_module("opentelemetry.trace")
        context = import_module("opentelemetry.context")
    except ModuleNotFoundError:
        return None
    if isinstance(api.get_tracer_provider(), api.ProxyTracerProvider | api.NoOpTracerProvider):
        return None
    return Spans(api, context.Context())


class Spans(Observer):
    """Makes the spans."""

    traces = True

    def __init__(self, api: Any, root: Any) -> None:
        """`api` is the module `opentelemetry.trace`, and `root` an empty context of the same."""
        self._api = api
        self._root = root
        self._tracer = api.get_tracer(NAME)

    def context(self) -> object:
        """The span that is current where a call is made; `None` when none is recorded there."""
        found = self._api.get_current_span().get_span_context()
        return found if found.is_valid else None

    def joined(
        self, kind: str, calls: int, waited: float, seconds: float, error: Exception | None, contexts: Sequence[object]
    ) -> None:
        """See `Observer`."""
        # By their ids: OpenTelemetry's own contexts cannot be looked up in a dictionary.
        callers: dict[tuple[int, int], Any] = {
            (each.trace_id, each.span_id): each for each in cast("Sequence[Any]", contexts) if each is not None
        }
        if not callers:
            # Nobody who waits for it is traced: sampling decides for callers, and a batch follows them.
            return
        self._span(
            f"holdfast.batch {kind}",
            seconds,
            error,
            {"holdfast.kind": kind, "holdfast.calls": calls, "holdfast.waited_ms": round(waited * 1000, 3)},
            context=self._root,
            links=[self._api.Link(each) for each in list(callers.values())[:MOST_LINKS]],
        )

    def called(self, kind: str, seconds: float, error: BaseException | None) -> None:
        """See `Observer`. Called where the call was made, so the span is a child of the one that is current."""
        if self.context() is not None:
            self._span(f"holdfast.call {kind}", seconds, error, {"holdfast.kind": kind})

    def _span(
        self, name: str, seconds: float, error: BaseException | None, attributes: dict[str, Any], **how: Any
    ) -> None:
        ended = time.time_ns()
        if error is not None:
            attributes["error.type"] = type(error).__name__
        span = self._tracer.start_span(
            name,
            kind=self._api.SpanKind.CLIENT,
            attributes=attributes,
            start_time=ended - int(seconds * 1e9),
            # It would write the error's text.
            record_exception=False,
            set_status_on_exception=False,
            **how,
        )
        if error is not None:
            span.set_status(self._api.StatusCode.ERROR)
        span.end(end_time=ended)
