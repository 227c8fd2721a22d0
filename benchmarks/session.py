"""One run of the benchmark: start the candidates, see what they can answer, and measure them in turns."""

import http.client
import json
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from candidates import BUILD, REPOSITORY, Candidate
from cases import CASES, COLD, IDLE, PROBE, Case
from processes import CandidateDiedError, Memory, Process, pinned, spent, stolen_seconds
from report import Row, Start, make_row

QUICK_SECONDS = 1.0
WARM_SECONDS = 0.4
SETTLE_SECONDS = 0.5
ANSWER_END = "End of the {kind} answer"  # what the upstream's answers end with, see marks.h


@dataclass(frozen=True)
class Machine:
    """Where the processes run: the load's CPU and the candidate's, None on a machine with one CPU."""

    load_cpu: int | None
    candidate_cpu: int | None


@dataclass
class Bench:
    """One run: what is fixed at its start, and what has been found so far."""

    machine: Machine
    folder: Path
    environment: Mapping[str, str]
    quick: bool
    repetitions: int
    tests: Sequence[str]
    rows: list[Row] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def trouble(self, text: str) -> None:
        self.troubles.append(text)
        print(f"  !! {text}", flush=True)


# --- starting a candidate ---------------------------------------------------------------------------------------------


def _start(bench: Bench, candidate: Candidate) -> tuple[Process, float]:
    """Start a candidate and wait for its first answer. Returns it with the seconds that took."""
    process = Process(
        candidate.name,
        candidate.command,
        log=bench.folder / f"{candidate.name}.log",
        cpu=bench.machine.candidate_cpu,
        environment={**bench.environment, **candidate.environment},
        cwd=REPOSITORY,
    )
    try:
        return process, _first_answer(process, candidate)
    except BaseException:
        process.stop()
        raise


def _first_answer(process: Process, candidate: Candidate) -> float:
    last = "nothing listens"
    while time.monotonic() - process.started < candidate.start_seconds:
        try:
            status, text = _post(candidate, PROBE)
        except (OSError, http.client.HTTPException) as error:
            last = f"{error}"
        else:
            if status == 200:
                return time.monotonic() - process.started
            last = f"status {status}: {text[:200]}"
        process.check_alive()
        time.sleep(0.005)
    raise CandidateDiedError(
        f"`{process.name}` gave no 200 within {candidate.start_seconds:g} s (last: {last})\n{process.log_tail()}"
    )


def _post(candidate: Candidate, case: Case, timeout: float = 20.0) -> tuple[int, str]:
    """Ask once, in the case's dialect and not as a stream."""
    body = {"model": case.model, "max_tokens": 16, "messages": [{"role": "user", "content": "hello"}]}
    headers = {**_headers(candidate), "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", candidate.port, timeout=timeout)
    try:
        connection.request("POST", case.path, json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


def _headers(candidate: Candidate) -> dict[str, str]:
    """Every way to show a key at once, so that one request fits each dialect's habit."""
    return {
        "Authorization": f"Bearer {candidate.key}",
        "x-api-key": candidate.key,
        "anthropic-version": "2023-06-01",
    }


def rehearse(bench: Bench, candidate: Candidate) -> list[Case] | None:
    """Start the candidate once and ask each case's question once.

    Returns the cases that it answers properly, or None when it does not come up. The rehearsal also lets Python write
    its bytecode, so that the cold starts measured later are those of an installed program.
    """
    cases = _cases_for(bench, candidate)
    if candidate.is_direct:
        return cases
    print(f"rehearsing {candidate.name}", flush=True)
    try:
        process, _ = _start(bench, candidate)
        with process:
            return [case for case in cases if _answers(bench, candidate, case)]
    except (CandidateDiedError, OSError) as error:
        bench.trouble(f"{candidate.name} is left out: {error}")
        return None


def _cases_for(bench: Bench, candidate: Candidate) -> list[Case]:
    """The chosen cases that the candidate can do at all; for nginx also those that others are compared with."""
    chosen = {case.name for case in CASES if case.name in bench.tests}
    if candidate.name == "nginx":
        chosen |= {case.against for case in CASES if case.name in chosen}
    return [
        case for case in CASES if case.name in chosen and (case.is_passthrough or not candidate.passes_through_only)
    ]


def _answers(bench: Bench, candidate: Candidate, case: Case) -> bool:
    """Whether the candidate answers the case, and from the right upstream: a translation must be one."""
    try:
        status, text = _post(candidate, case)
    except (OSError, http.client.HTTPException) as error:
        status, text = 0, str(error)
    if status == 200 and ANSWER_END.format(kind=case.upstream_kind) in text:
        return True
    seen = "the upstream was asked in another dialect" if status == 200 else f"status {status}: {text[:200]}"
    bench.trouble(f"{candidate.name}: `{case.name}` is left out: {seen}")
    return False


# --- measuring --------------------------------------------------------------------------------------------------------


def measure_fresh(bench: Bench, candidates: Sequence[Candidate]) -> None:
    """Cold start, size, and size with idle streams: each repetition on a new process."""
    if not {COLD, IDLE.name} & set(bench.tests):
        return
    for repetition in range(bench.repetitions):
        for candidate in candidates:
            if candidate.is_direct:
                continue
            try:
                bench.starts.append(_measure_start(bench, candidate, repetition))
            except (CandidateDiedError, OSError) as error:
                bench.trouble(f"{candidate.name}: {error}")


def _measure_start(bench: Bench, candidate: Candidate, repetition: int) -> Start:
    print(f"  {candidate.name}: cold start" + (" and idle streams" if IDLE.name in bench.tests else ""), flush=True)
    process, seconds = _start(bench, candidate)
    with process:
        for _ in range(50):  # what is loaded on first use belongs to the size at rest
            _post(candidate, PROBE)
        time.sleep(SETTLE_SECONDS)
        rest = process.memory()
        start = Start(candidate.name, repetition, seconds, rest.rss_bytes, rest.pss_bytes)
        if IDLE.name not in bench.tests:
            return start
        held, size = _hold_streams(bench, candidate, process)
    if held == IDLE.callers:
        return replace(start, idle_streams=held, idle_pss_bytes=size.pss_bytes)
    bench.trouble(f"{candidate.name}: {held} of {IDLE.callers} idle streams opened within {IDLE.seconds:g} s")
    return replace(start, problem=f"only {held} idle streams opened")


def _hold_streams(bench: Bench, candidate: Candidate, process: Process) -> tuple[int, Memory]:
    """Open the idle streams and look at the candidate's size. Returns how many have opened in time."""
    load = _start_load(bench, candidate, IDLE, IDLE.seconds, "--hold")
    try:
        ready, _, _ = select.select([load.stdout], [], [], IDLE.seconds + 5)  # its last line says how many, too
        line = load.stdout.readline() if ready else ""
        held = json.loads(line).get("held", 0) if line else 0
        time.sleep(SETTLE_SECONDS)
        return held, process.memory()
    finally:
        _, complaints = load.communicate(timeout=IDLE.seconds + 20)  # closes its standard input, which ends it
        _log_complaints(bench, candidate, IDLE, complaints)


def measure_cases(bench: Bench, plans: Mapping[Candidate, Sequence[Case]]) -> None:
    """Start all candidates, then let them take turns: test by test, repetition by repetition."""
    if not any(plans.values()):
        return
    with ExitStack() as stack:
        running: dict[str, Process] = {}
        for candidate in plans:
            if candidate.is_direct:
                continue
            try:
                running[candidate.name] = stack.enter_context(_start(bench, candidate)[0])
            except (CandidateDiedError, OSError) as error:
                bench.trouble(f"{candidate.name} is left out: {error}")
        ready = [candidate for candidate in plans if candidate.is_direct or candidate.name in running]
        for repetition in range(bench.repetitions):
            for case in CASES:
                for candidate in (candidate for candidate in ready if case in plans[candidate]):
                    _measure(bench, candidate, case, running.get(candidate.name), repetition)


def _measure(bench: Bench, candidate: Candidate, case: Case, process: Process | None, repetition: int) -> None:
    print(f"  {repetition + 1}/{bench.repetitions} {case.name}: {candidate.name}", flush=True)
    try:
        row = _measure_row(bench, candidate, case, process, repetition)
    except (CandidateDiedError, ValueError, subprocess.TimeoutExpired) as error:
        bench.trouble(f"{candidate.name}: `{case.name}`: {error}")
        return
    bench.rows.append(row)
    if row.problem:
        bench.trouble(f"{candidate.name}: `{case.name}`: {row.problem}")


def _measure_row(bench: Bench, candidate: Candidate, case: Case, process: Process | None, repetition: int) -> Row:
    if process:
        process.check_alive()
    if not case.is_paced:
        _run_load(bench, candidate, case, WARM_SECONDS)
    stolen = stolen_seconds(bench.machine.candidate_cpu)
    before = process.usage() if process else None
    load = _run_load(bench, candidate, case, QUICK_SECONDS if bench.quick else case.seconds)
    used = spent(before, process.usage()) if process and before else None
    return make_row(candidate.name, case, repetition, load, used, stolen_seconds(bench.machine.candidate_cpu) - stolen)


def _run_load(bench: Bench, candidate: Candidate, case: Case, seconds: float) -> dict[str, float]:
    """Run the load generator to its end. Its complaints go to a log; raises ValueError when it gives no result."""
    load = _start_load(bench, candidate, case, seconds)
    output, complaints = load.communicate(timeout=seconds + 30)
    _log_complaints(bench, candidate, case, complaints)
    if not output:
        raise ValueError(f"the load generator gave no result: {complaints}")
    return json.loads(output)


def _log_complaints(bench: Bench, candidate: Candidate, case: Case, complaints: str) -> None:
    if complaints:
        with (bench.folder / "load.log").open("a") as log:
            log.write(f"--- {candidate.name} {case.name}\n{complaints}")


def _start_load(bench: Bench, candidate: Candidate, case: Case, seconds: float, *more: str) -> subprocess.Popen[str]:
    command = [str(BUILD / "load"), "--port", str(candidate.port), "--path", case.path, "--kind", case.kind]
    command += ["--model", case.model, "--callers", str(case.callers), "--body-bytes", str(case.body_bytes)]
    command += ["--seconds", str(seconds), "--ramp", str(min(case.ramp, seconds))]
    for name, value in _headers(candidate).items():
        command += ["--header", f"{name}: {value}"]
    if case.stream:
        command += ["--stream", "--events", str(case.events)]
    pipe = subprocess.PIPE
    with pinned(bench.machine.load_cpu):
        return subprocess.Popen([*command, *more], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
