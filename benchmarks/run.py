"""The benchmark of `make bench`: what the gateway costs per request and per event, beside nginx on the same machine.

It builds a fake upstream and a load generator (C), puts both on one CPU and the candidate on another, and measures the
CPU time of the candidate's processes. Candidates take turns test by test, so that a ratio compares two measurements
that are seconds apart. How to read the output: `benchmarks/README.md`.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from candidates import BUILD, REPOSITORY, Candidate, custom, direct, find_nginx, gateway, litellm, nginx
from cases import CASES, NAMES
from processes import CandidateDiedError, Process
from report import Summary, print_cases, print_starts, summarize
from session import Bench, Machine, measure_cases, measure_fresh, rehearse

SOURCES = Path(__file__).resolve().parent
COMPILER_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra")
OPEN_FILES = 16_384


def main() -> int:
    options = _read_options()
    missing = _missing()
    if missing:
        print(f"bench: skipped, {missing}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended by SIGTERM"))
    BUILD.mkdir(parents=True, exist_ok=True)
    _build_programs()
    _allow_open_files()
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=BUILD))
    bench = Bench(
        _choose_cpus(), folder, _environment(options.worker_env), options.quick, 1 if options.quick else options.reps,
        options.tests,
    )  # fmt: skip
    try:
        return _run(bench, options)
    except KeyboardInterrupt:
        print("bench: interrupted")
        return 130
    finally:
        if bench.troubles:
            print(f"\nlogs and configurations are kept in {folder}")
        else:
            shutil.rmtree(folder)


def _run(bench: Bench, options: argparse.Namespace) -> int:
    facts = _machine_facts(bench.machine)
    _print_facts(facts)
    with _start_upstream(bench) as upstream:
        port = _upstream_port(upstream)
        candidates = _choose_candidates(bench, options, port)
        plans = {candidate: rehearse(bench, candidate) for candidate in candidates}
        plans = {candidate: cases for candidate, cases in plans.items() if cases is not None}
        measure_fresh(bench, list(plans))
        measure_cases(bench, plans)
    summaries = summarize(bench.rows, [candidate.name for candidate in plans])
    print_cases(summaries)
    print_starts(bench.starts, [candidate.name for candidate in plans])
    _print_noise(bench)
    if options.json:
        _write_json(options.json, bench, facts, summaries)
    return 1 if bench.troubles else 0


# --- the setting ------------------------------------------------------------------------------------------------------


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short repetition: to see that all works")
    parser.add_argument("--reps", type=int, default=3, metavar="N", help="repetitions, of which the median counts (3)")
    parser.add_argument("--tests", type=_names(NAMES), default=list(NAMES), metavar="A,B", help=", ".join(NAMES))
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="A,B", help="only these candidates")
    parser.add_argument("--with", dest="extra", choices=["litellm"], action="append", default=[],
                        help="also measure a program that has to be installed first")  # fmt: skip
    parser.add_argument("--command", action="append", default=[], metavar="[NAME=]CMD",
                        help="also measure this command; {port}, {upstream} and {config} are filled in")  # fmt: skip
    parser.add_argument("--worker-env", action="append", default=[], metavar="NAME=VALUE", type=_assignment,
                        help="environment of the candidates")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    options = parser.parse_args()
    if options.reps < 1:
        parser.error("--reps must be at least 1")
    return options


def _names(allowed: Sequence[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        chosen = text.split(",")
        unknown = [name for name in chosen if name not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(allowed)}")
        return chosen

    return read


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"`{text}` is not NAME=VALUE")
    return name, value


def _missing() -> str:
    """Why nothing can be measured here, or an empty text."""
    if sys.platform != "linux":
        return "it measures with Linux's epoll and /proc"
    if shutil.which("cc") is None:
        return "there is no C compiler (`cc`) for the load generator"
    return ""


def _build_programs() -> None:
    for name in ("upstream", "load"):
        program, source = BUILD / name, SOURCES / f"{name}.c"
        newest = max(source.stat().st_mtime, (SOURCES / "marks.h").stat().st_mtime)
        if not program.exists() or program.stat().st_mtime < newest:
            subprocess.run(["cc", *COMPILER_FLAGS, "-o", str(program), str(source)], check=True)


def _allow_open_files() -> None:
    """Raise the limit of open files, which the candidates inherit: an idle stream costs a proxy two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _choose_cpus() -> Machine:
    """Two CPUs of those we may use; the driver itself moves to the load's, away from the candidate."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        print("bench: only one CPU: nothing is pinned, and load and candidate disturb each other")
        return Machine(None, None)
    os.sched_setaffinity(0, {cpus[0]})
    return Machine(cpus[0], cpus[1])


def _environment(assignments: Sequence[tuple[str, str]]) -> dict[str, str]:
    # Bytecode must be written, or every cold start would compile the package again.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **dict(assignments)}


def _start_upstream(bench: Bench) -> Process:
    return Process("upstream", [str(BUILD / "upstream")], log=bench.folder / "upstream.log", cpu=bench.machine.load_cpu)


def _upstream_port(upstream: Process) -> int:
    for _ in range(500):
        words = upstream.log.read_text().split()
        if words[:1] == ["listening"] and len(words) > 1:
            return int(words[1])
        upstream.check_alive()
        time.sleep(0.01)
    raise CandidateDiedError("the fake upstream does not listen")


def _choose_candidates(bench: Bench, options: argparse.Namespace, upstream_port: int) -> list[Candidate]:
    """The chosen candidates, the yardsticks first. Says which are left out."""
    found: list[Candidate | None] = [direct(upstream_port), nginx(bench.folder, upstream_port)]
    if found[-1] is None:
        print("bench: nginx is not installed: there will be no ratios")
    found.append(gateway(bench.folder, upstream_port))
    found += [custom(text, i, bench.folder, upstream_port) for i, text in enumerate(options.command, 1)]
    if "litellm" in options.extra:
        try:
            found.append(litellm(bench.folder, upstream_port))
        except subprocess.CalledProcessError as error:
            bench.trouble(f"litellm is left out, it could not be installed: {error}")
    named = [candidate for candidate in found if candidate is not None]
    names = [candidate.name for candidate in named]
    if len(set(names)) < len(names):
        sys.exit(f"bench: two candidates have the same name: {', '.join(names)}")
    unknown = set(options.only or ()) - set(names)
    if unknown:
        sys.exit(f"bench: --only names {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return [candidate for candidate in named if not options.only or candidate.name in options.only]


# --- what is told -----------------------------------------------------------------------------------------------------


def _machine_facts(machine: Machine) -> dict[str, str]:
    pinning = f"load on {machine.load_cpu}, candidate on {machine.candidate_cpu}"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": f"{os.cpu_count()} x {_cpu_model()}",
        "pinning": "none" if machine.candidate_cpu is None else pinning,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "gateway": _first_line(["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]),
        "nginx": _first_line([find_nginx(), "-v"]).removeprefix("nginx version: "),
        "compiler": _first_line(["cc", "--version"]),
        "load average": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(command: Sequence[str | None]) -> str:
    """What a program says about itself; `-` when it is missing or fails."""
    if command[0] is None or shutil.which(command[0]) is None:
        return "-"
    done = subprocess.run([word for word in command if word], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).partition("\n")[0] if done.returncode == 0 else "-"


def _print_facts(facts: Mapping[str, str]) -> None:
    for name, value in facts.items():
        print(f"{name:>12}: {value}")


def _print_noise(bench: Bench) -> None:
    """Say how disturbed the measurements were: time stolen by the hypervisor, the spread of nginx's own figure."""
    if not bench.rows:
        return
    print(f"\nstolen by the hypervisor: at most {max(row.stolen for row in bench.rows):.1%} of a measurement")
    for case in CASES:
        costs = [row.cpu_us for row in bench.rows if row.candidate == "nginx" and row.case == case.name and row.cpu_us]
        if len(costs) > 1 and max(costs) > 1.1 * min(costs):
            print(f"noisy: nginx itself varied from {min(costs):.1f} to {max(costs):.1f} us in `{case.name}`")


def _write_json(path: Path, bench: Bench, facts: Mapping[str, str], summaries: Sequence[Summary]) -> None:
    result = {
        "machine": dict(facts),
        "summaries": [asdict(summary) for summary in summaries],
        "rows": [asdict(row) for row in bench.rows],
        "starts": [asdict(start) for start in bench.starts],
        "troubles": bench.troubles,
    }
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    sys.exit(main())
