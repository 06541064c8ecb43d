"""Put results into the documentation: `python -m benchmarks.publish benchmarks/results/A.json B.json C.json`.

The figures on the page stand between two marks, and everything between them is replaced: the table of the bars with a
column for each run, the pictures of the last run that has them, and how cost grows, from a run with `--scale`. The
files are kept beside the others under a name that git does not ignore.
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.pictures.draw import draw

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "explanation" / "performance.md"
IMAGES: Final = ROOT / "docs" / "images"
BEGIN: Final = "<!-- figures: made by python -m benchmarks.publish -->"
END: Final = "<!-- end of the figures -->"
_STEM: Final = "performance"
_ALT: Final = {
    "latency": "How long a validate takes at each percentile, for Holdfast and its peers",
    "callers": "Validates a second with 1 to 1,000 callers, for Holdfast and its peers",
}

Result = Mapping[str, Any]


def publish(paths: Sequence[Path], page: Path = PAGE, images: Path = IMAGES) -> None:
    """Replace what stands between the marks of a page."""
    results = [json.loads(path.read_text()) for path in paths]
    kept = [_kept(path) for path in paths]
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    assert before, f"{page} has no figures"
    assert after, f"{page} does not say where its figures end"
    figures = "\n".join(_figures(results, kept, page, images)).strip()
    page.write_text(f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}", encoding="utf-8")


def reached(goal: str, medians: Sequence[float]) -> str:
    """Whether a goal was reached: in every run, in none, or in how many of them."""
    if goal == "-":
        return ""
    sign, figure = goal.split()[:2]
    good = sum(each >= float(figure) if sign == ">=" else each <= float(figure) for each in medians)
    if len(medians) in (good, good + len(medians)):
        return "yes" if good else "no"
    return f"in {good} of {len(medians)}"


def _kept(path: Path) -> Path:
    """The file under a name that is kept."""
    if path.stem.endswith(("-first", "-cited")):
        return path
    cited = path.with_name(f"{path.stem}-cited.json")
    shutil.copyfile(path, cited)
    return cited


def _figures(results: Sequence[Result], kept: Sequence[Path], page: Path, images: Path) -> Iterator[str]:
    yield from _conditions(results, kept)
    yield ""
    yield from _bars(results)
    images.mkdir(parents=True, exist_ok=True)
    for result in results[::-1]:
        if pictures := draw(result, images, _STEM):
            for picture in pictures:
                place = Path(*[".."] * (len(page.parent.relative_to(images.parent).parts)), images.name, picture.name)
                yield f"\n![{_ALT[picture.stem.removeprefix(_STEM + '-')]}]({place})"
            break
    for result in results:
        if "scale" in result:
            yield ""
            yield from _scale(result["scale"])


def _conditions(results: Sequence[Result], kept: Sequence[Path]) -> Iterator[str]:
    last = results[-1]
    machine, versions, server = last["machine"], last["versions"], last["postgresql"]
    redis = f", Redis {versions['redis-server']}" if "redis-server" in versions else ""
    yield (
        f"{machine['processors']} processors ({machine['processor']}), {machine['memory_gib']} GiB, "
        f"Python {versions['python']} with asyncio's own loop, PostgreSQL {server['server_version']} "
        f"(`fsync={server['fsync']}`, `synchronous_commit={server['synchronous_commit']}`, "
        f"`shared_buffers={server['shared_buffers']}`), SQLite {versions['sqlite']}{redis}."
    )
    yield ""
    for number, (result, path) in enumerate(zip(results, kept, strict=True), start=1):
        settings = result["settings"]
        load = result["machine"]
        yield (
            f"{number}. `benchmarks/results/{path.name}`: commit {result['versions']['commit']}, "
            f"{settings['rounds']} rounds of {settings['seconds']:g} s, {settings['callers']} callers, "
            f"{settings['sessions']:,} sessions; load average {load['load_average'][0]} before and "
            f"{load['load_average_after'][0]} after"
        )


def _bars(results: Sequence[Result]) -> Iterator[str]:
    bars: dict[str, dict[str, Any]] = {}
    for result in results:
        bars |= result["bars"]
    if not bars:
        return
    runs = [number for number, result in enumerate(results, start=1) if result["bars"]]
    yield "| bar | what | goal | " + " | ".join(f"run {number}" for number in runs) + " | reached |"
    yield "|---" * (4 + len(runs)) + "|"
    for name in sorted(bars, key=_order):
        found = [results[number - 1]["bars"].get(name) for number in runs]
        medians = [each["median"] for each in found if each is not None]
        cells = [_cell(each) for each in found]
        goal = bars[name]["goal"]
        yield " | ".join((f"| {name}", bars[name].get("what", ""), goal, *cells, f"{reached(goal, medians)} |"))


def _order(name: str) -> tuple[int, str]:
    """B2 before B10, and what has no number last."""
    digits = name.partition(" ")[0].removeprefix("B")
    return (int(digits), name) if digits.isdigit() else (1_000, name)


def _cell(bar: Mapping[str, Any] | None) -> str:
    if bar is None:
        return "not measured"
    figures = bar.get("ratios") or bar["figures"]
    unit = bar.get("unit", "x")
    shown = f"{_number(bar['median'])}{'' if unit == 'x' else f' {unit}'}"
    return shown if len(figures) == 1 else f"{shown} ({_number(min(figures))} to {_number(max(figures))})"


def _number(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}" if figure >= 0.1 else f"{figure:.3f}"


def _scale(sizes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| | " + " | ".join(f"{each['sessions']:,} sessions" for each in sizes) + " |"
    yield "|---" * (1 + len(sizes)) + "|"
    for name, cell in _SCALE_LINES.items():
        yield f"| {name} | " + " | ".join(cell(each) for each in sizes) + " |"


def _of_callers(callers: str) -> Any:
    def cell(size: Mapping[str, Any]) -> str:
        found = size["one_process"].get(callers)
        return "" if found is None else f"{found['per_second']:,.0f}/s, p99 {found['p99']:.1f} ms"

    return cell


_SCALE_LINES: Final[Mapping[str, Any]] = {
    "disk for each, with all indexes": lambda size: f"{size['disk_bytes']['total'] / size['sessions']:,.0f} bytes",
    **{
        f"validates, {int(callers):,} caller{'s' if callers != '1' else ''}": _of_callers(callers)
        for callers in ("1", "10", "100", "1000")
    },
    "two processes together": lambda size: f"{size['two_processes']['per_second']:,.0f}/s",
    "write-ahead log for a validate, 100 callers": lambda size: (
        f"{size['one_process'].get('100', {}).get('log_bytes', 0):,.0f} bytes"
    ),
    "updates that stay in their page": lambda size: f"{size['in_page_share']:.1%}",
    "exact count": lambda size: f"{size['count_ms']:,.0f} ms",
    "memory of a process, loaded": lambda size: f"{size['memory_bytes']['loaded'] / 1e6:,.0f} MB",
    "sweep of a tenth as many ended": lambda size: f"{size['sweep']['seconds']:,.1f} s",
    "p99 beside the sweep, and without": lambda size: (
        f"{size['sweep']['during']['p99']:.1f} ms, {size['sweep']['without']['p99']:.1f} ms"
    ),
}


def main() -> None:
    """The results that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publish", description=publish.__doc__)
    parser.add_argument("results", nargs="+", type=Path, help="files of `make bench`, the oldest first")
    publish(parser.parse_args().results)


if __name__ == "__main__":
    main()
