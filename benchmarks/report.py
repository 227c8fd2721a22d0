"""The results: rows as measured, medians over the repetitions, and the tables that are printed."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from cases import CASES, Case
from processes import Spent

MB = 1e6
_ENDED_THREADS = "threads ended, see cpu_ticks_us in the JSON"


@dataclass(frozen=True)
class Row:
    """One measurement of one case. `cpu_us` is per unit (request or event); None for the direct row."""

    candidate: str
    case: str
    repetition: int
    load: dict[str, float]
    cpu_us: float | None
    cpu_ticks_us: float | None
    ended_threads: int
    busy: float | None
    stolen: float
    problem: str = ""


@dataclass(frozen=True)
class Start:
    """One fresh process: how long until its first answer, its size, and its size with idle streams (0: not asked)."""

    candidate: str
    repetition: int
    first_answer_seconds: float
    rss_bytes: int
    pss_bytes: int
    idle_streams: int = 0
    idle_pss_bytes: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Summary:
    """The medians of one candidate in one case; ratios are taken within each repetition, to nginx."""

    candidate: str
    case: str
    unit: str
    repetitions: int
    cpu_us: float | None
    ratio: float | None
    ratio_least: float | None
    ratio_most: float | None
    per_second: float
    busy: float | None
    ttft_p50_ms: float
    ttft_p99_ms: float
    middle_p50_ms: float
    middle_p99_ms: float
    problems: str


def make_row(
    candidate: str, case: Case, repetition: int, load: dict[str, float], used: Spent | None, stolen: float
) -> Row:
    """Turn what the load generator and the CPU clocks say into costs per request or event."""
    units = load["events" if case.stream else "done"]
    seconds = load["seconds"]
    problem = ", ".join(f"{load[key]:g} {key}" for key in ("errors", "short", "non_200", "unfinished") if load[key])
    if not units:
        problem = f"nothing completed ({problem})"
    exact = used.us / units if used and units else None
    ticks = used.ticks_us / units if used and units else None
    return Row(
        candidate,
        case.name,
        repetition,
        load,
        exact,
        ticks,
        used.ended_threads if used else 0,
        used.us / 1e6 / seconds if used else None,
        stolen / seconds,
        problem,
    )


def summarize(rows: Sequence[Row], order: Sequence[str]) -> list[Summary]:
    """One summary per case and candidate, cases in their own order and candidates in the given one."""
    return [
        _summary(case, mine, rows)
        for case in CASES
        for name in order
        if (mine := [row for row in rows if row.case == case.name and row.candidate == name])
    ]


def print_cases(summaries: Sequence[Summary]) -> None:
    for case in CASES:
        mine = [summary for summary in summaries if summary.case == case.name]
        if mine:
            middle = "transit" if case.stream else "latency"
            against = "" if case.against == case.name else f"; ratio to nginx's `{case.against}`"
            print(f"\n{case.name}: {case.says}{against}")
            heads = ["", f"CPU us/{case.unit}", "x nginx", "(range)", f"{case.unit}s/s", "busy", "ttft ms p50", "p99"]
            _print_table([*heads, f"{middle} ms p50", "p99", "problems"], [_case_cells(summary) for summary in mine])


def print_starts(starts: Sequence[Start], order: Sequence[str]) -> None:
    if not starts:
        return
    print("\ncold start and memory (whole process tree, MB of 1,000,000 bytes)")
    heads = ["", "first answer s", "RSS", "PSS", "PSS with idle streams", "streams", "KB/stream", "problems"]
    cells = [_start_cells(mine) for name in order if (mine := [start for start in starts if start.candidate == name])]
    _print_table(heads, cells)


def _summary(case: Case, mine: Sequence[Row], rows: Sequence[Row]) -> Summary:
    middle = "transit" if case.stream else "latency"
    ratios = _ratios(case, mine, rows)
    notes = {row.problem for row in mine if row.problem} | {_ENDED_THREADS for row in mine if row.ended_threads}

    def load_median(key: str) -> float:
        return median(row.load[key] for row in mine)

    return Summary(
        candidate=mine[0].candidate,
        case=case.name,
        unit=case.unit,
        repetitions=len(mine),
        cpu_us=_median([row.cpu_us for row in mine]),
        ratio=_median(ratios),
        ratio_least=min(ratios, default=None),
        ratio_most=max(ratios, default=None),
        per_second=load_median("events_per_second" if case.stream else "requests_per_second"),
        busy=_median([row.busy for row in mine]),
        ttft_p50_ms=load_median("ttft_p50_ms"),
        ttft_p99_ms=load_median("ttft_p99_ms"),
        middle_p50_ms=load_median(f"{middle}_p50_ms"),
        middle_p99_ms=load_median(f"{middle}_p99_ms"),
        problems="; ".join(sorted(notes)),
    )


def _ratios(case: Case, mine: Sequence[Row], rows: Sequence[Row]) -> list[float]:
    """Our cost over nginx's, repetition by repetition: what disturbs the machine disturbs both."""
    nginx = {row.repetition: row.cpu_us for row in rows if row.candidate == "nginx" and row.case == case.against}
    return [row.cpu_us / base for row in mine if row.cpu_us and (base := nginx.get(row.repetition))]


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _case_cells(summary: Summary) -> list[str]:
    spread = "" if summary.ratio_least is None else f"{summary.ratio_least:.2f}-{summary.ratio_most:.2f}"
    return [
        summary.candidate,
        _number(summary.cpu_us, 1),
        _number(summary.ratio, 2),
        spread if summary.repetitions > 1 else "",
        f"{summary.per_second:,.0f}",
        "-" if summary.busy is None else f"{summary.busy:.0%}",
        f"{summary.ttft_p50_ms:.2f}",
        f"{summary.ttft_p99_ms:.2f}",
        f"{summary.middle_p50_ms:.2f}",
        f"{summary.middle_p99_ms:.2f}",
        summary.problems,
    ]


def _start_cells(mine: Sequence[Start]) -> list[str]:
    def middle(name: str) -> float:
        return median(getattr(start, name) for start in mine)

    streams = middle("idle_streams")
    idle_pss, pss = middle("idle_pss_bytes"), middle("pss_bytes")
    return [
        mine[0].candidate,
        f"{middle('first_answer_seconds'):.3f}",
        f"{middle('rss_bytes') / MB:.1f}",
        f"{pss / MB:.1f}",
        f"{idle_pss / MB:.1f}" if streams else "-",
        f"{streams:.0f}" if streams else "-",
        f"{(idle_pss - pss) / streams / 1000:.1f}" if streams else "-",
        "; ".join(sorted({start.problem for start in mine if start.problem})),
    ]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Right-aligned columns; the first and the last are text. A last column without content is left out."""
    table = [list(heads), *(list(row) for row in rows)]
    if not any(row[-1] for row in table[1:]):
        table = [row[:-1] for row in table]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        cells = [
            cell.ljust(width) if place in (0, len(heads) - 1) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  " + "  ".join(cells).rstrip())
