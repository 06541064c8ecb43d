"""What figures mean, in sentences: for whoever has to decide whether the database is fast enough."""

from collections.abc import Iterator

from holdfast.bench.measuring import Figures

# A machine is no longer asked whether it can, but when it will fail, with less than this to spare.
_SHARE = 0.5
# Above it what one caller waits for is hardly Holdfast or the network any more.
_SLOW_COMMIT = 10.0


def meaning(figures: Figures) -> list[str]:
    """Sentences, the most important one first."""
    return list(_sentences(figures))


def _sentences(figures: Figures) -> Iterator[str]:
    room = _rounded(figures.validates_per_second * _SHARE)
    keeps = "each on the disk before its answer" if figures.durable else "none of them safe from a power cut"
    yield (
        f"One process of your application can validate {_rounded(figures.validates_per_second):,} sessions a second "
        f"here, {keeps}; with one validate for each request and half of the machine to spare, that is "
        f"{room:,} requests a second."
    )
    yield (
        f"With {figures.callers} callers at once half of them waited less than {figures.median:.1f} ms "
        f"and one in a hundred longer than {figures.p99:.1f} ms."
    )
    rest = max(0.0, figures.alone - figures.round_trip)
    yield (
        f"One caller alone waited {figures.alone:.1f} ms: {figures.round_trip:.1f} ms for the way to the database and "
        f"back, and {rest:.1f} ms for the write and its way to the disk."
    )
    if not figures.durable:
        yield "The server runs with fsync off: these are not the figures of a database that keeps its promises."
    elif rest > _SLOW_COMMIT:
        yield "The disk takes long to confirm a write; a faster one would help each caller more than anything else."
    elif figures.kind == "postgresql" and figures.round_trip > rest:
        yield "The way to the database is longer than its work: move the application closer to it."


def _rounded(figure: float) -> int:
    """To two digits: another run would give others."""
    whole = round(figure)
    return whole if whole < 100 else round(whole, 2 - len(str(whole)))
