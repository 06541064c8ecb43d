"""What all clients have seen so far: for the eye alone, the results come from the journals."""

from dataclasses import dataclass

from holdfast.demo.journal import WRITES, Entry


@dataclass(slots=True)
class Tally:
    """Counts of one process, that has all clients."""

    connected: int = 0
    """How many clients have had a socket."""
    open: int = 0
    acknowledged: int = 0
    longest_ms: float = 0.0
    waiting: int = 0
    refused: int = 0
    unknown: int = 0
    dropped: int = 0
    logged_out: int = 0

    def count(self, entry: Entry) -> None:
        """A line was written into a journal."""
        self.acknowledged += entry.what in WRITES
        if entry.what in WRITES or entry.what == "unknown":
            self.longest_ms = max(self.longest_ms, entry.ms)
        self.refused += entry.what == "refused"
        self.unknown += entry.what == "unknown"
        self.dropped += entry.what == "dropped"
        self.logged_out += entry.what == "logged out"
