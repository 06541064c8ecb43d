"""How far the demonstration is, for whoever watches."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["running", "done", "failed"]


@dataclass(slots=True)
class Step:
    """One thing that happens."""

    title: str
    command: str = ""
    """The command with which an operator does it."""
    state: State = "running"
    began: float = 0.0
    """Seconds since the demonstration began."""
    seconds: float = 0.0
    note: str = ""
    """What there is to say about it."""


@dataclass(slots=True)
class Progress:
    """The steps, and what the clients tell meanwhile. The result does not come from here but from their journals."""

    changed: "Callable[[Progress], None]"
    """Told whenever a step begins or ends, and what the clients tell."""
    began: float = field(default_factory=time.monotonic)
    steps: list[Step] = field(default_factory=list)
    serving: str = ""
    tally: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def step(self, title: str, command: str = "") -> Iterator[Step]:
        """A step is under way within this."""
        began = time.monotonic()
        step = Step(title, command, began=began - self.began)
        self.steps.append(step)
        self.changed(self)
        try:
            yield step
        except BaseException:
            step.state = "failed"
            raise
        else:
            step.state = "done"
        finally:
            step.seconds = time.monotonic() - began
            self.changed(self)

    def heard(self, tally: dict[str, Any]) -> None:
        """The clients have told something."""
        self.tally = tally
        self.changed(self)
