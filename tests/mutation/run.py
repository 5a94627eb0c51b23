"""Whether the tests can fail: run those of each mutant's line, and list the mutants that survive.

    python tests/mutation/run.py [--sample N] [--seed N] [--only TEXT] [--jobs N] [--record FILE]

Nothing is written into the checkout. The tests are collected once; each mutant is put into a forked
copy of that process, where the tests that reach its line run until one fails: those first that have
killed most of its function's mutants, then those of the module's own test file, then the quickest.
What is wrong at import, and what survives, runs once more in a fresh import. Survivors that
explained.json names count as explained. Exit code 1 where more than LIMIT of the others survive.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import pickle
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from itertools import accumulate
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
EXPLAINED = HERE / "explained.json"
ROOMS = ("slimlib/metrics", "slimlib/comparison")
LEFT_OUT = {"slimlib/comparison/plots.py"}  # pictures are looked at
TESTS = ("tests/metrics", "tests/comparison")
LIMIT = 0.05  # of the mutants, that may survive without an explanation
PATIENCE = 20, 10  # seconds, and times the tests' own: a loop without end counts as killed
ENOUGH = 10  # seconds, as measured line by line, of tests that a mutant has to outlive
OFTEN = 50  # calls of a function without a new line: it is watched no longer
LONG = 2000  # lines of one call without a new one: likewise
MEMORY = 4 << 30  # bytes, so does one that takes more
OPTIONS = [
    *"-s -x --strict-markers -p no:cacheprovider -p no:terminal -p no:xdist".split(),
    *("-p", "no:faulthandler", "-o", "addopts=", "-m", "not slow and not gpu"),
]

sys.path[:0] = [str(CHECKOUT), str(HERE)]
os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}

# what the tests import, slimlib aside: once, for all copies
import hypothesis  # noqa: E402
import lm_eval.tasks  # noqa: E402,F401
import matplotlib.pyplot  # noqa: E402,F401
import pandas  # noqa: E402,F401
import pydantic  # noqa: E402,F401
import pytest  # noqa: E402
import scipy.optimize  # noqa: E402,F401
import scipy.stats  # noqa: E402,F401
from _pytest.runner import runtestprotocol  # noqa: E402
from mutants import Mutant, mutants  # noqa: E402


class Reach(NamedTuple):
    """What one test takes and executes."""

    seconds: float  # of the processor
    lines: dict[str, set[int]]  # of each module's path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutants that the arguments ask for, and say what survives."""
    options = _options(arguments)
    chosen = [m for file in _files() for m in mutants(CHECKOUT, file)]
    chosen = [m for m in chosen if options.only in " ".join(m.key)]
    if options.sample:
        chosen = random.Random(options.seed).sample(chosen, min(options.sample, len(chosen)))
    explained = {tuple(entry["mutant"]): entry["why"] for entry in json.loads(_text(EXPLAINED))}
    started = time.monotonic()
    survivors = _survivors([m for m in chosen if m.key not in explained], options.jobs)
    counts = _counts(chosen, survivors, explained)
    for m in survivors:
        print(json.dumps(m.key))
    minutes = round((time.monotonic() - started) / 60, 1)
    print(json.dumps(counts["all"]), f"in {minutes} minutes")
    if options.record:
        found = {"minutes": minutes, "jobs": options.jobs, "counts": counts}
        found["survived"] = [m.key for m in survivors]
        options.record.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(len(survivors) > LIMIT * len(chosen))


def _survivors(asked: list[Mutant], jobs: int) -> list[Mutant]:
    """The mutants that no test tells from the original."""
    sys.pycache_prefix = tempfile.mkdtemp()
    try:
        found = _forked(partial(_looped, asked, jobs))
        if found is None:
            raise SystemExit("the tests do not pass without any mutant")
        reach, alive, afresh = found
        print(f"{len(afresh)} mutants to try in a fresh import", flush=True)
        shares = [[(i, asked[i]) for i in sorted(afresh)[job::jobs]] for job in range(jobs)]
        alive |= _in_shares([partial(_survive_import, share, reach) for share in shares])
        return [m for i, m in enumerate(asked) if i in alive]
    finally:
        shutil.rmtree(sys.pycache_prefix)


def _looped(asked: list[Mutant], jobs: int) -> tuple[dict[str, Reach], set[int], set[int]] | None:
    loop = _Loop(asked, jobs)
    passed = _pytest(TESTS, loop) == pytest.ExitCode.OK
    return (loop.reach, loop.alive, loop.afresh) if passed else None


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, help="so many mutants, drawn by chance; else all")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--only", default="", help="mutants whose file, function or line has this")
    parser.add_argument("--jobs", type=int, default=1, help="processes at work side by side")
    parser.add_argument("--record", type=Path, help="file for the counts by module")
    return parser.parse_args(arguments)


def _files() -> list[str]:
    found = sorted(f for room in ROOMS for f in (CHECKOUT / room).rglob("*.py"))
    return [f for path in found if (f := path.relative_to(CHECKOUT).as_posix()) not in LEFT_OUT]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _counts(
    chosen: list[Mutant], survivors: list[Mutant], explained: dict[tuple[str, ...], str]
) -> dict[str, dict[str, int]]:
    """Mutants, and of these killed, survived and explained, in all and by module."""
    alive = {id(m) for m in survivors}
    counts: dict[str, dict[str, int]] = {"all": {}}
    for m in chosen:
        fate = "survived" if id(m) in alive else "explained" if m.key in explained else "killed"
        for name in ("all", m.file):
            row = counts.setdefault(name, {})
            if not row:
                row |= dict.fromkeys(("mutants", "killed", "survived", "explained"), 0)
            row["mutants"] += 1
            row[fate] += 1
    return counts


# ---- where modules are imported already ----


class _Loop:
    """Instead of pytest's loop over tests: one over mutants."""

    def __init__(self, asked: list[Mutant], jobs: int) -> None:
        self.asked, self.jobs = asked, jobs
        self.reach: dict[str, Reach] = {}
        self.alive: set[int] = set()
        self.afresh: set[int] = set()  # wrong already while the tests are collected
        self.kills: Counter[tuple[str, str, str]] = Counter()  # file, function, test

    def pytest_sessionstart(self) -> None:
        """See which lines run as the tests are collected: wrong there needs a fresh import."""
        self.begin = _Lines(str(m.path) for m in self.asked)
        sys.settrace(self.begin)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        sys.settrace(None)
        functions = _functions(self.begin.hits)
        gc.collect()
        gc.freeze()  # shared with the copies
        items = {item.nodeid: item for item in session.items}
        self.reach = _forked(partial(_traced, session.items, self.begin.hits))
        if None in self.reach.values():
            raise pytest.UsageError(f"{[*self.reach][-1]} fails without any mutant")
        print(f"{len(items)} tests, {sum(r.seconds for r in self.reach.values()):.0f} s of them")
        self.afresh = {i for i, m in enumerate(self.asked) if self._is_run_before(m)}
        others = [i for i in range(len(self.asked)) if i not in self.afresh]
        works = [
            partial(self._surviving, others[job :: self.jobs], items, functions)
            for job in range(self.jobs)
        ]
        self.alive = _in_shares(works)
        return True

    def _surviving(
        self, numbers: list[int], items: dict[str, pytest.Item], functions: dict
    ) -> set[int]:
        alive: set[int] = set()
        for done, number in enumerate(numbers, 1):
            if self._survives(self.asked[number], items, functions):
                alive.add(number)
                print("alive:", *self.asked[number].key, sep=" | ", flush=True)
            if done % 100 == 0:
                print(f"{done} mutants, {len(alive)} alive", flush=True)
        return alive

    def _is_run_before(self, m: Mutant) -> bool:
        scope = m.place.scope
        return scope.at_import or bool(scope.lines & self.begin.hits[str(m.path)])

    def _survives(self, m: Mutant, items: dict[str, pytest.Item], functions: dict) -> bool:
        tests = _of(m, self.reach)
        where = m.key[:2]
        some = [items[name] for name in sorted(tests, key=lambda name: -self.kills[*where, name])]
        found = _forked(partial(_failing, m, some, functions), _patience(tests))
        if found is None:  # it died, or took too long
            return False
        changed, failed = found
        if changed != 1:
            raise pytest.UsageError(f"{m.key} changes {changed} functions")
        self.kills[*where, failed] += 1
        return failed is None


class _Lines:
    """A trace function that notes which lines of some files are reached."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.hits: dict[str, set[int]] = {path: set() for path in paths}
        self.calls: Counter[CodeType] = Counter()

    def __call__(self, frame: FrameType, event: str, _: object) -> Callable | None:
        code = frame.f_code
        if code.co_filename not in self.hits or self.calls[code] > OFTEN:
            return None
        self.calls[code] += 1
        lines, old = self.hits[code.co_filename], 0

        def inside(frame: FrameType, event: str, _: object) -> Callable:
            nonlocal old
            if event == "line" and frame.f_lineno not in lines:
                lines.add(frame.f_lineno)
                self.calls[code] = old = 0
            old += 1
            frame.f_trace_lines = old < LONG
            return inside

        return inside


def _traced(items: list[pytest.Item], paths: Iterable[str]) -> dict[str, Reach | None]:
    """Run all tests, and see which lines each reaches; the last one is None where it fails.

    Nothing is kept from one to the next: neither a fixture, nor what slimlib's functions remember.
    """
    remembered = [f for f in gc.get_objects() if isinstance(f, functools._lru_cache_wrapper)]
    remembered = [f for f in remembered if f.__module__.startswith("slimlib")]
    found: dict[str, Reach | None] = {}
    for item in items:
        for function in remembered:
            function.cache_clear()
        started, lines = time.process_time(), _Lines(paths)
        sys.settrace(lines)
        failed = _first_that_fails([item])
        sys.settrace(None)
        found[item.nodeid] = Reach(time.process_time() - started, lines.hits)
        if failed:
            return found | {item.nodeid: None}
    return found


def _functions(paths: set[str]) -> dict[tuple[str, str, int], list[FunctionType]]:
    """The functions of some modules, whoever holds them, by where they are defined."""
    found: dict[tuple[str, str, int], list[FunctionType]] = {}
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and thing.__code__.co_filename in paths:
            found.setdefault(_name(thing.__code__), []).append(thing)
    return found


def _name(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _failing(m: Mutant, items: list[pytest.Item], functions: dict) -> tuple[int, str | None]:
    """Give all functions of the module the mutant's code, and run the tests.

    Returns:
        How many functions that changed, and the first test that fails.
    """
    codes, changed = [m.code()], 0
    for code in codes:
        codes += [const for const in code.co_consts if isinstance(const, CodeType)]
        for function in functions.get(_name(code), []):
            changed += function.__code__ != code
            function.__code__ = code
    return changed, _first_that_fails(items) if changed == 1 else None


def _first_that_fails(items: list[pytest.Item]) -> str | None:
    """The name of the first test that fails; those after it are not run."""
    _be_quiet()
    for item, following in zip(items, [*items[1:], None], strict=False):
        if any(report.failed for report in runtestprotocol(item, nextitem=following, log=False)):
            return item.nodeid
    return None


# ---- in a fresh import ----


class _Chosen:
    """Of the tests that pytest collects, some alone, in the order given."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        found = {item.nodeid: item for item in items}
        items[:] = [found[name] for name in self.names]


class _Wrong(MetaPathFinder, SourceFileLoader):
    """Imports one module as the mutant has it."""

    def __init__(self, m: Mutant) -> None:
        SourceFileLoader.__init__(self, m.file[:-3].replace("/", "."), str(m.path))
        self.mutant = m

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, _: str) -> CodeType:
        return self.mutant.code()


def _survive_import(numbered: list[tuple[int, Mutant]], reach: dict[str, Reach]) -> set[int]:
    return {number for number, m in numbered if _survives_import(m, reach)}


def _survives_import(m: Mutant, reach: dict[str, Reach]) -> bool:
    tests = _of(m, reach)
    return not tests or _forked(partial(_pass_afresh, m, tests), _patience(tests)) is True


def _pass_afresh(m: Mutant, tests: dict[str, float]) -> bool:
    sys.meta_path.insert(0, _Wrong(m))
    _be_quiet()
    files = dict.fromkeys(name.split("::")[0] for name in tests)
    return _pytest(files, _Chosen(tests)) == pytest.ExitCode.OK


# ---- shared ----


def _of(m: Mutant, reach: dict[str, Reach]) -> dict[str, float]:
    """The tests that reach a mutant with their seconds, as far as ENOUGH.

    Those of the module's own file come first, and the quickest.
    """
    lines, path, own = m.place.scope.lines, str(m.path), f"/test_{m.path.name}::"
    found = {name: r.seconds for name, r in reach.items() if lines & r.lines[path]}
    ordered = dict(sorted(found.items(), key=lambda entry: (own not in entry[0], entry[1])))
    spent = dict(zip(ordered, accumulate(ordered.values()), strict=True))
    return {name: seconds for name, seconds in ordered.items() if spent[name] <= ENOUGH}


def _be_quiet() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _patience(tests: dict[str, float]) -> float:
    return PATIENCE[0] + PATIENCE[1] * sum(tests.values())


def _pytest(tests: Iterable[str], plugin: object) -> int:
    phases = hypothesis.Phase.explicit, hypothesis.Phase.generate
    quiet = {"suppress_health_check": [*hypothesis.HealthCheck], "deadline": None}
    hypothesis.settings.register_profile(
        "mutation", database=None, derandomize=True, phases=phases, **quiet
    )
    hypothesis.settings.load_profile("mutation")
    os.chdir(CHECKOUT)
    with tempfile.TemporaryDirectory() as folder:
        return pytest.main([*OPTIONS, f"--basetemp={folder}/t", *tests], [plugin])


def _forked(work: Callable[[], Any], seconds: float | None = None) -> Any:
    """What `work` returns in a copy of this process; None where it dies or takes longer."""
    return _finished(*_begun(work), seconds)


def _in_shares(works: Sequence[Callable[[], set[int]]]) -> set[int]:
    """What all of them find, side by side."""
    found = [_finished(*begun, None) for begun in [_begun(work) for work in works]]
    if None in found:
        raise SystemExit("a share of the mutants came to no end")
    return set().union(*found)


def _begun(work: Callable[[], Any]) -> tuple[int, int]:
    """The number of a copy of this process, and the pipe on which its answer will come."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
            answer = pickle.dumps(work())
            with open(writing, "wb") as pipe:
                pipe.write(answer)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    return child, reading


def _finished(child: int, reading: int, seconds: float | None) -> Any:
    with open(reading, "rb") as pipe:
        if not select.select([pipe], [], [], seconds)[0]:
            os.kill(child, signal.SIGKILL)
        answer = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(answer) if answer else None


if __name__ == "__main__":
    raise SystemExit(main())
