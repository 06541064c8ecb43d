"""What counts as left: what is there whenever one looks."""

from tests.chaos.history import Rest
from tests.chaos.run import least


def test_what_comes_and_goes_is_not_left() -> None:
    """A sweep that happens to run at one look is no leak; a task that is there at both is (promise 7)."""
    sweeping = Rest(0, {"holdfast-sweep": 1, "holdfast-call": 1, "stuck": 1}, files=8, clients=0, database=6)
    looking = Rest(0, {"holdfast-sweep": 1, "stuck": 2}, files=7, clients=1, database=5)
    assert least(sweeping, looking) == Rest(0, {"holdfast-sweep": 1, "stuck": 1}, files=7, clients=0, database=5)
