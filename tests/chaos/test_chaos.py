"""The chaos run: a short one with every run of the tests, a long one in the soak."""

import os
from pathlib import Path

import pytest

from tests.chaos.checker import violations
from tests.chaos.conftest import Stage
from tests.chaos.report import keep
from tests.chaos.run import Plan, run

SHORT: Plan = Plan(seed=3, seconds=25.0, clients=6, sockets=18)
LONG_SECONDS = 330.0


async def hold(plan: Plan, stage: Stage, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Make a run, keep its report, and let no violation pass."""
    with capsys.disabled():
        # Whatever becomes of it, the run can be made again.
        print(f"\nHOLDFAST_TEST_CHAOS_SEED={plan.seed} HOLDFAST_TEST_CHAOS_SECONDS={plan.seconds:g}")  # noqa: T201 - for people
    history = await run(plan, *stage, folder)
    found = violations(history)
    place = keep(history, plan, found, folder)
    assert not found, f"seed {plan.seed}, all in {place}:\n" + "\n".join(
        f"promise {each.promise}: {each.text}" for each in found[:40]
    )


@pytest.mark.timeout(300)
async def test_promises_hold_in_a_short_chaos_run(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Promises 1 to 7 (F-01 to F-07, F-19, F-26, F-27, F-30): three servers, every fault, half a minute."""
    await hold(SHORT, stage, tmp_path, capsys)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_promises_hold_in_a_long_chaos_run(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Promises 1 to 7: the same for more than five minutes, or for as long and with the seed that is asked for."""
    seed = int(os.environ.get("HOLDFAST_TEST_CHAOS_SEED") or int.from_bytes(os.urandom(4)))
    seconds = float(os.environ.get("HOLDFAST_TEST_CHAOS_SECONDS") or LONG_SECONDS)
    await hold(Plan(seed=seed, seconds=seconds), stage, tmp_path, capsys)
