"""A pytest plugin: at the end of a soak it is said how much ran, and of what, however it ended.

A test that does something many times tells how often: `tell("50 schedules, …")`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

import pytest

Tell = Callable[[str], None]

_RAN: Final = "ran"


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Says of this test what it ran. (pytest's `record_property` would warn of the form of `--junitxml`.)"""
    return lambda text: request.node.user_properties.append((_RAN, text))


def _asked_for(config: pytest.Config) -> bool:
    return "soak" in re.sub(r"\bnot soak\b", "", str(config.option.markexpr))


def pytest_configure(config: pytest.Config) -> None:
    """Listen, if this run is a soak. The processes of a parallel run tell the first one, which alone speaks."""
    if _asked_for(config) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Soak(), "soaked")


class _Soak:
    """What was to run, and what of it did."""

    def __init__(self) -> None:
        self.chosen = 0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.chosen = len(session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        self.chosen = len(ids)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        outcomes: dict[str, str] = {}
        seconds: defaultdict[str, float] = defaultdict(float)
        told: list[str] = []
        # Where pytest keeps no outcome, it is of a test's setup or teardown.
        for outcome in ("", "passed", "skipped", "failed", "error"):
            for report in terminalreporter.getreports(outcome):
                if not isinstance(report, pytest.TestReport):
                    continue
                seconds[_part(report.nodeid)] += report.duration
                if outcome:
                    outcomes[report.nodeid] = outcome
                    told += [f"{report.nodeid}: {text}" for name, text in report.user_properties if name == _RAN]
        terminalreporter.section("what the soak ran")
        for part in sorted({_part(name) for name in outcomes}):
            of_part = [outcome for name, outcome in outcomes.items() if _part(name) == part]
            counts = ", ".join(f"{of_part.count(each)} {each}" for each in dict.fromkeys(of_part))
            terminalreporter.line(f"{seconds[part]:8.0f} s  {part}: {counts}")
        for line in told:
            terminalreporter.line(line)
        terminalreporter.line(f"{len(outcomes)} of the {self.chosen} tests that were chosen ran")


def _part(name: str) -> str:
    return name.split("::", maxsplit=1)[0]
