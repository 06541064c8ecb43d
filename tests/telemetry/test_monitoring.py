"""The dashboard and the alert rules ask for metrics that there are, and the guide explains every alert."""

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from holdfast.server.metrics_reference import names

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "monitoring"


def _dashboard() -> list[str]:
    dashboard = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    assert dashboard["uid"] == "holdfast"
    boxes = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(set(boxes)) == len(boxes)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(boxes)
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def _rules() -> list[dict[str, Any]]:
    (group,) = import_module("yaml").safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def test_every_metric_that_is_asked_for_exists(subtests: pytest.Subtests) -> None:
    """By the name of its series, and the expression's brackets are closed."""
    known = names()
    for expression in (*_dashboard(), *(rule["expr"] for rule in _rules())):
        with subtests.test(expression):
            asked = set(re.findall(r"\bholdfast_\w+", expression))
            assert asked
            assert asked - known == set()
            for opening, closing in ("()", "[]", "{}"):
                assert expression.count(opening) == expression.count(closing)


def test_every_metric_is_on_the_dashboard() -> None:
    """But for what a panel shows in another form."""
    shown = {name for expression in _dashboard() for name in re.findall(r"\bholdfast_\w+", expression)}
    base = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names()}
    left_out = {
        "holdfast_build_info",
        "holdfast_active_sessions_age_seconds",
        "holdfast_sessions_total",  # what HTTP saw of the creates and validates
        "holdfast_sweep_duration_seconds",
        "holdfast_sweep_last_success_timestamp_seconds",
        "holdfast_move_verified_timestamp_seconds",
    }
    assert base - {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown} == left_out


def test_every_alert_is_explained() -> None:
    """Each rule has a severity and a sentence, and a row in the guide with what to do."""
    guide = (ROOT / "docs" / "how-to" / "monitor.md").read_text(encoding="utf-8")
    rules = _rules()
    assert re.findall(r"^\| `(Holdfast\w+)` \|", guide, re.MULTILINE) == [rule["alert"] for rule in rules]
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"]
