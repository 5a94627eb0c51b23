"""Kill `slimlib run` and `slimlib sweep` at random moments, and see that nothing of it shows.

    python tests/kills/run.py [--kills N] [--seed N] [--only run|sweep] [--record FILE]

A chain is one run folder: the command is started, its process group is killed by SIGKILL, it is
started again, and so on until it ends by itself. Each start has a goal: to be killed in training,
in merging, in evaluating, or at a change of some file in the folder. Where a kill really fell is
read from what the command said. At the end of a chain the folder is compared with an undisturbed
one's; at each start what was done already must stay untouched. Exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

CHECKOUT = Path(__file__).resolve().parents[2]
SIZE = ("--set", "limit=40", "--set", "train.save_steps=5")  # a minute, several checkpoints
COMMANDS = {
    "run": ("run", "--study", "smoke", "--set", "arms=llama-base,llama-2k", "--set", "data.n=200"),
    "sweep": ("sweep", "--seeds", "1", "--cells", "base,qlora-r4", "--set", "data.n=160"),
}
ORDER = {  # of the stages; the first evaluation is the base model's
    "run": ("finetune", "evaluate", "merge", "evaluate"),
    "sweep": ("evaluate", "finetune", "merge", "evaluate"),
}
# Of a record: measured by a clock, or of the process at that moment.
MEASURED = {"seconds", "train_seconds", "tokens_per_second", "peak_memory_gb"}
MEASURED |= {"date", "pretty_env_info", "config_source", "results.json"}  # lm-eval's, and its hash
STARTED = re.compile(r"^(finetune|merge|evaluate) ([\w-]+): started$", re.MULTILINE)
ENDED = re.compile(r"^(?:finetune|merge|evaluate) [\w-]+: done in", re.MULTILINE)
LEFT = ("*.tmp", "*.old", "*.damaged", "checkpoints", "responses-*", "locks/*.json")
POLL = 0.005  # seconds


class Kill(NamedTuple):
    """One kill: where it was to fall, where it fell, when, and what was found afterwards."""

    chain: int
    goal: str
    fell_in: str  # stage and arm, or "between stages"
    moment: str  # of the stage, or the file that had changed
    seconds: float  # since the command was started


class Command:
    """A command at work on a folder, in a process group of its own."""

    def __init__(self, name: str, root: Path) -> None:
        self.root, self.begun = root, time.monotonic()
        self.earlier = len(self._worker_said())
        self.errors = root.with_name(f"{root.name}.stderr")
        words = [sys.executable, "-m", "slimlib", *COMMANDS[name], *SIZE, "--runs", str(root)]
        paths = os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])
        about = {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"}
        with open(self.errors, "wb") as stream:
            self.process = subprocess.Popen(
                words,
                stdout=subprocess.DEVNULL,
                stderr=stream,
                env={**os.environ, **about, "OMP_NUM_THREADS": "1"},
                cwd=root.parent,
                start_new_session=True,
            )

    def said(self) -> str:
        """What this start has said so far, its worker's words among it."""
        text = self.errors.read_text(encoding="utf-8", errors="replace")
        return text + self._worker_said()[self.earlier :]

    def _worker_said(self) -> str:
        log = self.root / "worker-1.log"
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    @property
    def alive(self) -> bool:
        """Whether it has not ended by itself."""
        return self.process.poll() is None

    def kill(self) -> float:
        """End its process group at once; seconds since its start."""
        os.killpg(self.process.pid, signal.SIGKILL)
        seconds = time.monotonic() - self.begun
        self.process.wait()
        time.sleep(0.2)  # the system's own time to end the workers
        return round(seconds, 3)

    def stage(self) -> str:
        """The stage that it was in."""
        said = self.said()
        started = [*STARTED.finditer(said)]
        over = not started or ENDED.search(said, started[-1].end())
        return "between stages" if over else " ".join(started[-1].groups())


class Changes:
    """Counts the changes of files in a folder while they happen."""

    def __init__(self, root: Path) -> None:
        self.root, self.seen, self.count, self.last = root, look(root), 0, ""

    def look_again(self) -> int:
        """How many there have been."""
        now = look(self.root)
        new = [path for path, about in now.items() if self.seen.get(path) != about]
        gone = [path for path in self.seen if path not in now]
        self.last = (new + gone or [self.last])[-1]
        self.count, self.seen = self.count + len(new) + len(gone), now
        return self.count


def look(root: Path) -> dict[str, tuple[int, int]]:
    """Each file of a folder with its time and size."""
    found, folders = {}, [str(root)]
    while folders:
        try:
            for entry in os.scandir(folders.pop()):
                if entry.is_dir():
                    folders.append(entry.path)
                else:
                    about = entry.stat()
                    name = os.path.relpath(entry.path, root)
                    found[name] = (about.st_mtime_ns, about.st_size)
        except FileNotFoundError:  # a name that was just replaced
            continue
    return {name: found[name] for name in found if not name.endswith((".log", ".stderr"))}


# ----------------------------------------------------------------------------------------- killing


def killed(
    command: Command, changes: Changes, goal: str, share: float, usual: dict[str, Any]
) -> tuple[str, str, float] | None:
    """Kill a command as its goal says; where it was, the moment and seconds; None: it ended.

    Args:
        command: just started.
        changes: in its folder.
        goal: a stage, "change", or "" to let it end.
        share: of the stage's usual seconds, or of the usual number of changes, after which.
        usual: of `undisturbed`.
    """
    number = 1 + int(share * usual["changes"])
    while command.alive:
        if goal == "change" and changes.look_again() >= number:
            moment = f"change {number}: {changes.last}"
            break
        if goal in [match[1] for match in STARTED.finditer(command.said())]:
            pause = share * usual["seconds"][goal]
            moment = f"{pause:.3f} s after its start"
            time.sleep(pause)
            break
        time.sleep(POLL)
    if not command.alive:
        return None
    seconds = command.kill()
    return command.stage(), moment, seconds


def chain(
    name: str, root: Path, goals: Sequence[str], usual: dict[str, Any], draw: random.Random
) -> tuple[list[tuple[Any, ...]], list[str]]:
    """Kill and restart a command in a new folder, then let it end; its kills and what was wrong."""
    kills: list[tuple[Any, ...]] = []
    wrong: list[str] = []
    for number, goal in enumerate((*goals, "")):
        before = finished(root)
        command, share = Command(name, root), draw.random()
        if goal == "change":
            share /= len(goals)  # so that the goals behind it are still to come
        found = killed(command, Changes(root), goal, share, usual)
        kills += [(goal, *found)] if found else []
        if command.process.returncode not in (0, -signal.SIGKILL):
            wrong.append(f"start {number} failed: {command.said()[-500:]}")
        after = look(root)
        wrong += [
            f"{name} was made again"
            for name in before
            if after.get(name, 0) not in (0, before[name])
        ]
    return kills, wrong


def undisturbed(name: str, root: Path) -> dict[str, Any]:
    """Run a command, and tell the seconds of its stages and the changes that it makes."""
    command, changes = Command(name, root), Changes(root)
    while command.alive:
        changes.look_again()
        time.sleep(POLL)
    if command.process.returncode:
        raise SystemExit(command.said())
    seconds = Counter()
    for path in root.rglob("record.json"):
        for stage, entry in json.loads(path.read_text(encoding="utf-8"))["stages"].items():
            seconds[stage] = max(seconds[stage], entry["seconds"])
    return {"seconds": dict(seconds), "changes": changes.count}


# --------------------------------------------------------------------------------------- comparing


def finished(root: Path) -> dict[str, tuple[int, int]]:
    """The files that no later start may touch: of done stages and of tasks that are answered."""
    done = []
    for path in root.rglob("record.json"):
        stages = json.loads(path.read_text(encoding="utf-8"))["stages"]
        arm = path.parent.relative_to(root).as_posix()
        folders = {"finetune": "adapter/", "merge": "merged/", "evaluate": "eval/"}
        whole = [folder for stage, folder in folders.items() if _done(stages.get(stage))]
        done += [f"{arm}/{folder}" for folder in whole]
        done += [
            f"{arm}/eval/{entry.parent.name}/" for entry in path.parent.glob("eval/*/entry.json")
        ]
    return {name: about for name, about in look(root).items() if name.startswith(tuple(done))}


def _done(stage: dict[str, Any] | None) -> bool:
    return bool(stage) and stage["status"] == "done"


def content(root: Path) -> dict[str, Any]:
    """What a folder holds but for times, memory of hashes, workers' words."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir() or path.suffix in (".lock", ".log") or path.name == "hashes.json":
            continue
        found[name] = path.read_bytes()
        if ".json" in path.name:
            text = gzip.decompress(found[name]) if path.suffix == ".gz" else found[name]
            found[name] = [_unmeasured(row) for row in _values(text)]
    return found


def _values(text: bytes) -> Iterator[Any]:
    """The value of a JSON text, or those of its lines."""
    try:
        yield json.loads(text)
    except json.JSONDecodeError:
        yield from map(json.loads, text.splitlines())


def _unmeasured(value: Any) -> Any:
    if isinstance(value, list):
        return [_unmeasured(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {key: _unmeasured(part) for key, part in value.items() if key not in MEASURED}


def differences(root: Path, expected: dict[str, Any]) -> list[str]:
    """What is other than in an undisturbed folder, and what was left behind in this one."""
    now = content(root)
    wrong = [f"{name} differs" for name in expected if now.get(name) != expected[name]]
    wrong += [f"{name} is more" for name in now if name not in expected]
    wrong += [f"{path.name} was left" for pattern in LEFT for path in root.rglob(pattern)]
    return wrong + [f"{path.name} is held" for path in root.rglob("*.lock") if _is_held(path)]


def _is_held(path: Path) -> bool:
    try:
        with FileLock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True


# ------------------------------------------------------------------------------------------ record


def try_command(name: str, root: Path, kills: int, seed: int) -> Iterator[dict[str, Any]]:
    """Kill a command so many times a goal; the record of it after each chain."""
    draw = random.Random(f"{name} {seed}")
    usual = undisturbed(name, root)
    expected = content(root)
    done: list[Kill] = []
    outcomes: list[list[str]] = []
    while goals := plan(name, hits(done), kills, draw):
        shutil.rmtree(root)
        found, wrong = chain(name, root, goals, usual, draw)
        done += [Kill(len(outcomes), *kill) for kill in found]
        outcomes.append(wrong + differences(root, expected))
        print(f"{name}: {dict(hits(done))}, {outcomes[-1] or 'equal'}", flush=True)
        chains = [
            {"kills": [kill._asdict() for kill in done if kill.chain == n], "wrong": wrong}
            for n, wrong in enumerate(outcomes)
        ]
        about = {"command": " ".join(("slimlib", *COMMANDS[name], *SIZE)), "undisturbed": usual}
        yield {**about, "kills": dict(hits(done)), "chains": chains}


def plan(name: str, counts: Counter[str], kills: int, draw: random.Random) -> list[str]:
    """The goals of a chain: those still open, in the order of the stages."""
    goals = [goal for goal in ORDER[name] if counts[goal] < kills]
    if counts["change"] < kills:
        goals.insert(draw.randint(0, len(goals)), "change")
    return goals


def hits(kills: Sequence[Kill]) -> Counter[str]:
    """How many kills fell where they were to fall."""
    return Counter(k.goal for k in kills if k.goal == "change" or k.fell_in.startswith(k.goal))


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the commands that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=12, help="of each goal and command")
    parser.add_argument("--seed", type=int, default=0, help="of goals and moments")
    parser.add_argument("--only", choices=COMMANDS, help="one command alone")
    parser.add_argument("--record", type=Path, help="JSON file of all kills")
    options = parser.parse_args(arguments)
    names = [options.only] if options.only else [*COMMANDS]
    record = {"seed": options.seed, "commands": {}}
    for name in names:
        with tempfile.TemporaryDirectory() as place:
            for found in try_command(name, Path(place) / "runs", options.kills, options.seed):
                record["commands"][name] = found
                if options.record:
                    text = json.dumps(record, indent=1) + "\n"
                    options.record.write_text(text, encoding="utf-8")
    tried = record["commands"].values()
    return int(any(chain["wrong"] for found in tried for chain in found["chains"]))


if __name__ == "__main__":
    sys.exit(main())
