"""Damaged inputs for every reader, through the command line: no traceback, crash, hang or flood of memory may follow.

    python benchmarks/fuzz.py [--minutes 10 | --inputs N] [--seed S] [--area AREA]... [--json]
    python benchmarks/fuzz.py --replay

Each worker is a process that calls the command line in itself, so a crash or a hang ends a worker and not the fuzzer.
A correct answer is exit status 0, or 1 or 2 with one sentence. These are faults:

    fault      an exception that is not one of ours, also where the command line made a sentence of it
    traceback  one on stderr, as of a thread
    output     a failure without a sentence, or with --json other than one JSON object
    accepted   an engine that runs although its sidecar tells another shape
    crash      the process died
    hang       30 s of processor time, or 90 s in which it uses less than one: it waits
    memory     4 GB
    device     a node of /dev is not what it was

The same seed gives the same inputs. A failure is reduced to the fewest edits and stored in tests/corpus/ where it is
small; what is stored is run again by --replay and by the tests. Exit status 1 when there was a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import logging
import os
import random
import re
import select
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz_children import Children
from fuzz_inputs import AREAS, make_case, make_seeds

CORPUS = Path(__file__).resolve().parents[1] / "tests/corpus"
MOST_STORED_BYTES = 64 << 10
HANG_CPU_S, WAITS_S, MOST_RSS_BYTES = 30.0, 90.0, 4 << 30
PROGRESS_S = 60.0
CASES_OF_A_WORKER = 2500
# Turns of an area in a round: what costs much has few.
_TURNS = {"video": 1, "checkpoint": 1, "options": 1, "pack": 1}
_USUAL_TURNS = 3


# In a worker


class _Raised(logging.Handler):
    """What the command line logs of an exception that is not one of ours."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        from pspnet_edge.errors import PspnetEdgeError

        error = record.exc_info[1] if record.exc_info else None
        if record.name == "pspnet_edge.cli.main" and error is not None and not isinstance(error, PspnetEdgeError):
            self.errors.append(error)


def judge(arguments: list[str], folder: Path) -> dict[str, Any]:
    """Call the command line in this process and say what was wrong: ``{"status", "fault", "last"}``."""
    from pspnet_edge.cli import main

    raised, status = _Raised(), 0
    logging.getLogger("pspnet_edge").addHandler(raised)
    kept = sys.argv, sys.stdout, sys.stderr, Path.cwd()
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    own_err, said_file = os.dup(2), tempfile.TemporaryFile()  # noqa: SIM115
    os.dup2(said_file.fileno(), 2)  # the command line takes stderr by its number
    sys.argv, sys.stdout = ["pspnet-edge", *arguments], out
    sys.stderr = open(os.dup(2), "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: PTH123, SIM115
    os.chdir(folder)
    fault = None
    try:
        main.main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        fault = f"traceback: {_where(error)}"
    finally:
        sys.stderr.close()
        os.dup2(own_err, 2)
        os.close(own_err)
        sys.argv, sys.stdout, sys.stderr = kept[:3]
        os.chdir(kept[3])
        logging.getLogger("pspnet_edge").removeHandler(raised)
    out.flush()
    shown = out.buffer.getvalue().decode("utf-8", "replace")  # type: ignore[attr-defined]
    with said_file:
        said_file.seek(0)
        said = said_file.read().decode("utf-8", "replace")
    if raised.errors:
        fault = f"fault: {_where(raised.errors[0])}"
    fault = fault or _fault_of_text(arguments, status, shown, said)
    return {"status": status, "fault": fault, "last": said[-400:]}


def _where(error: BaseException) -> str:
    """The kind of error and the last place in the package: what tells one fault from another."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "pspnet_edge" in frame.filename] or list(frames)
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno} {own[-1].name}" if own else "?"
    return f"{type(error).__name__} at {place} ({str(error)[:120]})"


def _fault_of_text(arguments: list[str], status: int, shown: str, said: str) -> str | None:
    if "Traceback (most recent call last)" in said:
        return "traceback: " + said.strip().splitlines()[-1][:150]
    if "--json" in arguments:
        try:
            if not isinstance(json.loads(shown), dict):
                return "output: JSON that is not an object"
        except ValueError:
            return "output: not one JSON object"
    if status in (1, 2) and not said.strip() and not (shown.strip() and arguments[:2] == ["data", "check"]):
        return "output: no sentence"
    if status not in (0, 1, 2):
        return f"output: exit status {status}"
    return None


class _KeptTrees:
    """Typer's tree of a command, built once and given as new each time; building it takes most of a short command."""

    def __init__(self, build: Any) -> None:
        self._build = build
        self._kept: dict[tuple[int, ...], tuple[Any, list[tuple[Any, list[Any]]]]] = {}

    def __call__(self, app: Any) -> Any:
        key = tuple(id(entry) for entry in (*app.registered_commands, *app.registered_groups))
        if key not in self._kept:
            tree = self._build(app)
            self._kept[key] = tree, list(_params_of(tree))
        tree, params_of_commands = self._kept[key]
        for command, params in params_of_commands:
            command.params[:] = params
        return tree


def _params_of(command: Any) -> Iterator[tuple[Any, list[Any]]]:
    yield command, list(command.params)
    for below in getattr(command, "commands", {}).values():
        yield from _params_of(below)


def _serve() -> None:
    """Read cases from stdin, a line of JSON each, and answer each with a line."""
    subprocess.run = Children().run
    import typer

    typer.main.get_command = _KeptTrees(typer.main.get_command)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.environ["PSPNET_EDGE_LOG"] = ""
    from pspnet_edge.log import start_log

    start_log()
    for line in sys.stdin:
        case = Case(**json.loads(line))
        with tempfile.TemporaryDirectory(prefix="case-") as name:
            folder = Path(name)
            answer: dict[str, Any] = {"status": 0, "fault": None, "last": ""}
            arguments: list[str] = []
            try:
                arguments = case.write(folder)
            except Exception as error:  # an edit that does not apply to what the edit before it left
                answer["last"] = f"not made: {_where(error)}"
            if arguments:
                wrong = case.area == "sidecar" and _tells_another_shape(folder, Path(case.seeds))
                answer = judge(arguments, folder)
                if wrong and answer["status"] == 0 and not answer["fault"]:
                    answer["fault"] = "accepted: a sidecar of another shape"
            print(json.dumps({**answer, "arguments": arguments}), file=answers, flush=True)


def _tells_another_shape(folder: Path, seeds: Path) -> bool:
    try:
        told = json.loads((folder / "x.engine.json").read_bytes())
        return bool(told["shape_nhw"] != json.loads((seeds / "openvino.engine.json").read_bytes())["shape_nhw"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


# In the fuzzer


@dataclass(frozen=True)
class Case:
    """One input, as numbers, or a folder of the corpus."""

    area: str
    edits: list[int]
    choice: int
    seeds: str
    stored: str = ""

    def write(self, folder: Path) -> list[str]:
        """Make the files and return the arguments."""
        if not self.stored:
            return make_case(self.area, self.edits, self.choice, folder, Path(self.seeds))
        shutil.copytree(self.stored, folder, dirs_exist_ok=True)
        told = json.loads((folder / "case.json").read_text())
        return [str(word).replace("{seeds}", self.seeds) for word in told["arguments"]]


def case_of(area: str, index: int, seed: int, seeds: Path) -> Case:
    """The input of a seed, an area and a number."""
    rng = random.Random(f"{seed}/{area}/{index}")
    edits = [rng.getrandbits(32) for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5)))]
    return Case(area, edits, rng.getrandbits(32), str(seeds))


class Worker:
    """A process that takes cases; started again after a crash or a hang."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process: subprocess.Popen[str] | None = None
        self.cases = 0

    def try_case(self, case: Case) -> dict[str, Any]:
        """The answer to a case, with ``fault`` set where there was one."""
        if self.cases >= CASES_OF_A_WORKER:
            self.close()
        if self.process is None or self.process.poll() is not None:
            self.process, self.cases = self._start(), 0
        self.cases += 1
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(case.__dict__) + "\n")
        process.stdin.flush()
        looked, cpu, cpu_of_all = time.monotonic(), _cpu_s(process.pid), _cpu_of_session_s(process.pid)
        while not select.select([process.stdout], [], [], 0.25)[0]:
            used = _cpu_s(process.pid) - cpu
            if used > HANG_CPU_S:
                return self._ended(f"hang: {used:.0f} s of processor time")
            if time.monotonic() - looked > WAITS_S:
                before, cpu_of_all, looked = cpu_of_all, _cpu_of_session_s(process.pid), time.monotonic()
                if cpu_of_all - before < 1.0:  # on a busy machine much time may pass, but some of it is its own
                    return self._ended(f"hang: it waits, after {used:.0f} s of processor time")
            if _rss_bytes(process.pid) > MOST_RSS_BYTES:
                return self._ended("memory: over 4 GB")
        line = process.stdout.readline()
        if not line:
            return self._ended(f"crash: status {process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "PSPNET_EDGE_HOME": str(self.home / "board"),
            "TMPDIR": str(self.home),
            "HOME": str(self.home),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, str(Path(__file__).resolve()), "--worker"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, text=True, env=environment, start_new_session=True, **pipes)  # type: ignore[call-overload, no-any-return]

    def _ended(self, fault: str) -> dict[str, Any]:
        self.close()
        return {"status": None, "fault": fault, "last": "", "arguments": []}

    def close(self) -> None:
        """End the process and what it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, 9)
            self.process.communicate()
            self.process = None


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _cpu_of_session_s(leader: int) -> float:
    """Of a worker and what it started, as long as it is there."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    with_sessions = [(pid, _session_of(pid)) for pid in pids]
    return sum(_cpu_s(pid) for pid, session in with_sessions if session == leader)


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _rss_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def kind_of(fault: str) -> str:
    """A fault without what differs from input to input."""
    return re.sub(r" \(.*|(, after )?\d+ s of.*", "", fault, flags=re.DOTALL)


def reduce_case(worker: Worker, case: Case, fault: str) -> Case:
    """The same fault with as few edits as possible."""
    edits = list(case.edits)
    for edit in list(edits):
        fewer = [other for other in edits if other != edit]
        tried = Case(case.area, fewer, case.choice, case.seeds)
        if fewer and kind_of(worker.try_case(tried)["fault"] or "") == kind_of(fault):
            edits = fewer
    return Case(case.area, edits, case.choice, case.seeds)


def store(case: Case, fault: str, corpus: Path) -> Path | None:
    """Keep a case as files, unless it is large or its server is part of it; returns its folder."""
    if case.area == "fetch":
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = [word.replace(case.seeds, "{seeds}") for word in case.write(folder)]
        own = list(folder.rglob("*"))
        if any(not path.is_file() and not path.is_dir() for path in own):  # a FIFO or a dead link: git keeps neither
            return None
        if sum(path.stat().st_size for path in own) > MOST_STORED_BYTES:
            return None
        told = {"area": case.area, "was": kind_of(fault), "arguments": arguments}
        (folder / "case.json").write_text(json.dumps(told, indent=1) + "\n")
        target = corpus / f"{case.area}-{hashlib.sha256(kind_of(fault).encode()).hexdigest()[:8]}"
        if target.exists():
            return target
        shutil.copytree(folder, target)
        return target


def _device_nodes(folder: Path = Path("/dev")) -> dict[str, tuple[int, int, str]]:
    """Kind, mode and numbers of what is in /dev, and where its links lead; no input may change them."""
    nodes = {}
    for entry in os.scandir(folder):
        with contextlib.suppress(OSError):
            status = entry.stat(follow_symlinks=False)
            target = str(Path(entry).readlink()) if entry.is_symlink() else ""
            nodes[entry.name] = (status.st_mode, status.st_rdev, target)
    return nodes


def _changed_nodes(before: dict[str, tuple[int, int, str]], after: dict[str, tuple[int, int, str]]) -> list[str]:
    """What is not as it was, and what is new and an ordinary file, which nothing but a mistake puts there.

    New nodes are the kernel's: a camera or a disk that was plugged in meanwhile.
    """
    changed = [name for name, was in before.items() if after.get(name) != was]
    changed += [name for name in after if name not in before and stat.S_ISREG(after[name][0])]
    return sorted(changed)


def _round_of(areas: list[str]) -> list[tuple[str, int, int]]:
    """One round: each area with how many turns it has in a round, and which of them this is; spread evenly."""
    turns = [(area, _TURNS.get(area, _USUAL_TURNS)) for area in areas]
    places = [((turn + 0.5) / count, area, count, turn) for area, count in turns for turn in range(count)]
    return [(area, count, turn) for _, area, count, turn in sorted(places)]


def _turn(round_of_areas: list[tuple[str, int, int]], index: int) -> tuple[str, int]:
    """The area of an input, and its number within the area."""
    rounds, place = divmod(index, len(round_of_areas))
    area, count, turn = round_of_areas[place]
    return area, rounds * count + turn


def fuzz(
    areas: list[str], seed: int, seconds: float, most: int, corpus: Path | None, workers: int = 2
) -> dict[str, Any]:
    """Try inputs of each area in turn until the time or the number is used up."""
    before, end = _device_nodes(), time.monotonic() + seconds
    round_of_areas = _round_of(areas)
    tried: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    faults: dict[str, dict[str, Any]] = {}
    done = threading.Event()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        seeds = Path(name, "seeds")
        os.environ["XDG_CACHE_HOME"] = str(Path(name, "cache"))
        make_seeds(seeds)

        def work(number: int) -> None:
            worker = Worker(Path(name, f"worker{number}"))
            worker.home.mkdir()
            index = number
            while index < most and time.monotonic() < end:
                area, number_of_area = _turn(round_of_areas, index)
                case = case_of(area, number_of_area, seed, seeds)
                answer = worker.try_case(case)
                tried[area] += 1
                refused[area] += answer["status"] in (1, 2)
                index += workers
                if fault := answer["fault"]:
                    key = f"{area} {kind_of(fault)}"
                    if key in faults:
                        faults[key]["count"] += 1
                        continue
                    faults[key] = {"fault": fault, "count": 1, "arguments": answer["arguments"], "last": answer["last"]}
                    print(f"{key}: {fault} from {' '.join(answer['arguments'])[:300]}", file=sys.stderr, flush=True)
                    case = reduce_case(worker, case, fault)
                    faults[key]["case"] = [case.edits, case.choice]
                    faults[key]["stored"] = str(store(case, fault, corpus)) if corpus else None
            worker.close()

        with ThreadPoolExecutor(workers + 1) as pool:
            watch = pool.submit(_say_progress, tried, faults, done)
            list(pool.map(work, range(workers)))
            done.set()
            watch.result()
    if changed := _changed_nodes(before, _device_nodes()):
        fault = f"device: {', '.join(changed)}"
        print(f"/dev changed meanwhile: {', '.join(changed)}", file=sys.stderr)
        faults["device"] = {"fault": fault, "count": len(changed), "arguments": [], "last": ""}
    return {"seed": seed, "inputs": dict(tried), "refused": dict(refused), "faults": faults}


def _say_progress(tried: Counter[str], faults: dict[str, Any], done: threading.Event) -> None:
    while not done.wait(PROGRESS_S):
        print(f"{sum(tried.values())} inputs, {len(faults)} kinds of fault", file=sys.stderr, flush=True)


def replay(corpus: Path) -> list[str]:
    """Run every stored case again; returns the faults."""
    found = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        os.environ["XDG_CACHE_HOME"] = str(Path(name, "cache"))
        make_seeds(Path(name, "seeds"))
        worker = Worker(Path(name))
        for folder in sorted(path.parent for path in corpus.glob("*/case.json")):
            fault = worker.try_case(Case("stored", [], 0, str(Path(name, "seeds")), str(folder)))["fault"]
            if fault:
                found.append(f"{folder.name}: {fault}")
        worker.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--inputs", type=int, default=10**9, help="stop after so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--area", action="append", choices=sorted(AREAS), help="repeatable; default: all")
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="where failures are stored and replayed from")
    parser.add_argument("--replay", action="store_true", help="only run what is stored")
    parser.add_argument("--workers", type=int, default=2, help="processes that try inputs side by side")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        _serve()
        return 0
    if asked.replay:
        found = replay(asked.corpus)
        print("\n".join(found) or "every stored case is answered correctly")
        return bool(found)
    areas = asked.area or list(AREAS)
    done = fuzz(areas, asked.seed, asked.minutes * 60, asked.inputs, asked.corpus, asked.workers)
    if asked.json:
        print(json.dumps(done, indent=1))
    else:
        for area, count in done["inputs"].items():
            kinds = [key for key in done["faults"] if key.startswith(f"{area} ")]
            failed = sum(done["faults"][key]["count"] for key in kinds)
            print(
                f"{area:12} {count:6} inputs, {done['refused'][area]:6} refused, {failed} faults of {len(kinds)} kinds"
            )
    return bool(done["faults"])


if __name__ == "__main__":
    sys.exit(main())
