"""Spans, made through an API that has the shape of OpenTelemetry's: what they say, and what they never say."""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from holdfast.sessions import observer as observer_module
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.observer import Guarded, Observer
from holdfast.telemetry import spans as module
from holdfast.telemetry.several import Several
from holdfast.telemetry.spans import MOST_LINKS, Spans, spans


@dataclass
class Context:
    """What a link points at; like OpenTelemetry's own it is not hashable."""

    name: str
    is_valid: bool = True
    trace_id = 1

    @property
    def span_id(self) -> str:
        """One of its own."""
        return self.name


@dataclass
class Link:
    """One link."""

    context: Context


@dataclass
class Span:
    """A span as an exporter would have it."""

    name: str
    attributes: dict[str, Any] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    start: int = 0
    end_time: int = 0
    status: str = ""
    parent: "str | None" = None

    def get_span_context(self) -> Context:
        """Its own; the one of no span is not valid."""
        return Context(self.name, bool(self.name))

    def set_status(self, status: "Api.StatusCode") -> None:
        """Note it."""
        self.status = status.name

    def end(self, end_time: int) -> None:
        """Note it."""
        self.end_time = end_time


class Api:
    """The module `opentelemetry.trace`, as far as it is used."""

    Link = Link

    class SpanKind(Enum):
        """Kinds."""

        CLIENT = 1

    class StatusCode(Enum):
        """Statuses."""

        ERROR = 1

    def __init__(self) -> None:
        self.current: ContextVar[Span] = ContextVar("current")
        self.made: list[Span] = []

    class ProxyTracerProvider:
        """What there is while none is set."""

    class NoOpTracerProvider:
        """One that was switched off."""

    provider: object = None

    def get_tracer_provider(self) -> object:
        """The one that is set."""
        return self.provider

    def get_tracer(self, name: str) -> "Api":
        """The tracer is this too."""
        assert name == "holdfast"
        return self

    def get_current_span(self) -> Span:
        """The one of this task."""
        return self.current.get(Span(""))

    def start_span(self, name: str, **how: Any) -> Span:
        """A new span; a context that is given replaces the current one."""
        assert how["record_exception"] is how["set_status_on_exception"] is False
        parent = None if "context" in how else self.get_current_span().name
        made = Span(name, how["attributes"], how.get("links", []), how["start_time"], parent=parent)
        self.made.append(made)
        return made


async def test_a_batch_links_its_callers_and_a_call_is_a_child(tmp_path: Path) -> None:
    """One span for a batch, with a link to each caller that is traced; one below the caller for another call."""
    api = Api()
    manager = SessionManager(tmp_path / "sessions.db", sweep_interval=None)
    manager.observe(Several(Observer(), Spans(api, object())))
    async with manager:
        made = await manager.create_session("somebody", {"secret": "of the user"})
        assert api.made == []

        async def request(number: int) -> None:
            api.current.set(Span(f"request {number}"))
            assert await manager.validate_session(made.token) is not None

        await asyncio.gather(*(request(number) for number in range(30)))
        batches = [span for span in api.made if span.name == "holdfast.batch write"]
        linked = [link.context.name for span in batches for link in span.links]
        assert sorted(linked) == sorted(f"request {number}" for number in range(30))
        assert sum(span.attributes["holdfast.calls"] for span in batches) == 30
        assert len(batches) < 30
        assert all(span.parent is None and 0 < span.start <= span.end_time for span in batches)
        api.current.set(Span("reader"))
        assert await manager.get_by_id(made.id) is not None
    (call,) = [span for span in api.made if span.name == "holdfast.call read"]
    assert (call.parent, call.attributes) == ("reader", {"holdfast.kind": "read"})
    for secret in (made.token, "somebody", "of the user", made.id, "SELECT", "UPDATE"):
        assert secret not in repr(api.made)


def test_an_error_is_named_and_not_told() -> None:
    """S-10: the type of the error, a status, and none of its text."""
    api = Api()
    observer = Spans(api, object())
    api.current.set(Span("request"))
    observer.called("write", 0.5, ValueError("hfs_secret"))
    observer.joined("touch", 300, 0.1, 0.2, KeyError("hfs_secret"), [Context(str(n)) for n in range(300)])
    assert [span.status for span in api.made] == ["ERROR", "ERROR"]
    assert [span.attributes["error.type"] for span in api.made] == ["ValueError", "KeyError"]
    assert len(api.made[1].links) == MOST_LINKS
    assert "secret" not in repr(api.made)
    assert api.made[0].end_time - api.made[0].start == 500_000_000


def _raise(*_: object) -> Any:
    raise RuntimeError("a planned defect")


_RAISE: Any = _raise


class Raises(Observer):
    """An observer with a defect in everything it does."""

    traces = True

    context = joined = called = failed = ended = swept = sweep_failed = _RAISE


async def test_an_observer_that_raises_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Callers get their answers all the same, and the log has it once."""
    observer_module._kept.said = False
    manager = SessionManager(tmp_path / "sessions.db", sweep_interval=None)
    manager.observe(Raises())
    async with manager:
        made = await manager.create_session("u1")
        async with asyncio.timeout(20):
            assert await manager.validate_session(made.token) is not None
            assert await manager.get_by_id(made.id) is not None
            assert await manager.delete_session(made.token)
    assert [each.levelname for each in caplog.records if "an observer raised" in each.getMessage()] == ["ERROR"]
    guarded = Guarded(Raises())
    guarded.failed(ValueError())
    guarded.swept(1, 1, 1.0)
    guarded.sweep_failed()


def test_without_the_package_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is imported and nobody traces."""

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(module, "import_module", missing)
    assert spans() is None
    assert not Several(Observer()).traces


def test_with_a_provider_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two modules of the API are what the observer is made of, once somebody collects spans."""
    api = Api()

    class ContextModule:
        Context = dict

    monkeypatch.setattr(
        module, "import_module", {"opentelemetry.trace": api, "opentelemetry.context": ContextModule}.get
    )
    for nobody in (Api.ProxyTracerProvider(), Api.NoOpTracerProvider()):
        api.provider = nobody
        assert spans() is None
    api.provider = object()
    found = spans()
    assert found is not None
    assert found.traces
    assert found.context() is None


def test_the_package_itself_has_what_is_used() -> None:
    """OpenTelemetry's API, where it is installed: no provider is set in the tests, so nobody traces."""
    api = pytest.importorskip("opentelemetry.trace")
    assert spans() is None
    made = Spans(api, pytest.importorskip("opentelemetry.context").Context())
    assert made.context() is None
    contexts = [api.SpanContext(1, number, is_remote=False) for number in (1, 2, 2)]
    made.joined("touch", 3, 0.1, 0.1, ValueError(), contexts)
    made.called("read", 0.1, None)
