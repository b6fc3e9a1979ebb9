"""Runs the tiers: `python -m tests [all|unit|integration|e2e] [--keep]`, what `make test` calls.

Several tiers run side by side, each in a process of its own: what waits leaves its time to what computes.
Ends with one line `N passed, N failed` over all tiers, and fails when any tier failed, tested nothing, or when no tier
could run at all. Where a tier on real clusters leaves very few failures, these are run once more, alone: what passes
then is named as UNSTEADY in the summary, which is a flaw to be found, but not a red run. Clusters that were not there
before are taken down again, also after a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as Xml
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from tests import sidebyside, tiers
from tests.tiers import ROOT, TIERS, CannotPrepareError, Tier

NO_TESTS = 5
"""pytest's exit code when it collected nothing: a tier without tests proves nothing."""
QUIET_SECONDS = 10.0
"""Nothing is silent for longer: then a line says what still runs."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a tier. `not_run` is why it did not run; then nothing else counts.

    `unsteady` are tests, counted as passed, that failed first and passed when they were run once more.
    """

    tier: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    unsteady: tuple[str, ...] = ()
    seconds: float = 0.0
    not_run: str = ""
    trouble: str = ""

    @property
    def verdict(self) -> str:
        if self.not_run:
            return f"not run: {self.not_run}"
        return f"FAILED{f': {self.trouble}' if self.trouble else ''}" if self.failed else "passed"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__)
    parser.add_argument("tier", nargs="?", default="all", choices=["all", *(tier.name for tier in TIERS)])
    parser.add_argument("--keep", action="store_true", help="leave the clusters that this run started")
    parser.add_argument("--outcome", type=Path, help=argparse.SUPPRESS)  # how a run of all tiers runs one of them
    arguments = parser.parse_args()
    chosen = [tier for tier in TIERS if arguments.tier in ("all", tier.name)]
    if arguments.outcome:
        return _one_of_many(*chosen, keep=arguments.keep, outcome=arguments.outcome)
    if len(chosen) == 1:
        with _cleaned_up(*chosen, keep=arguments.keep) as left:
            outcomes = [run(*chosen)]
        outcomes += left
    else:
        outcomes = _side_by_side(chosen, keep=arguments.keep)
    _report(outcomes)
    ran = [outcome for outcome in outcomes if not outcome.not_run]
    return 1 if not ran or any(outcome.failed for outcome in ran) else 0


def _side_by_side(chosen: list[Tier], *, keep: bool) -> list[Outcome]:
    """Every tier at once. One whose process ends without an outcome has failed.

    Each takes down its clusters when it ends, and no longer takes time from the others; here is who does it for a
    process that was killed, and once more for a cluster that did not go.
    """
    with tempfile.TemporaryDirectory() as scratch, _cleaned_up(*chosen, keep=keep) as left:
        files = {tier.name: Path(scratch) / tier.name for tier in chosen}
        command = (sys.executable, "-m", "tests", *(("--keep",) if keep else ()))
        commands = {name: (*command, name, "--outcome", str(file)) for name, file in files.items()}
        codes = sidebyside.run(commands, directory=ROOT)
        outcomes = [_outcome(name, files[name], codes[name]) for name in files]
    return outcomes + left


def _one_of_many(tier: Tier, *, keep: bool, outcome: Path) -> int:
    """One tier of a run of several, which reports. Tiers that mostly compute yield to those that wait."""
    os.nice(tier.niceness)
    with _cleaned_up(tier, keep=keep):
        outcome.write_text(json.dumps(asdict(run(tier))))
    return 0


def _outcome(name: str, file: Path, code: int) -> Outcome:
    try:
        content = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return Outcome(tier=name, failed=1, trouble=f"its process ended with {code}")
    return Outcome(**{**content, "unsteady": tuple(content["unsteady"])})


def _stop(_signal: int, _frame: FrameType | None) -> None:
    """SIGTERM ends the run like ctrl-C does: what was started is taken down."""
    raise KeyboardInterrupt


def run(tier: Tier) -> Outcome:
    """One tier, from its preparation to its counts."""
    print(f"\n=== {tier.name}: {' '.join(tier.paths)}", flush=True)
    started = time.monotonic()
    lack = tier.lack()
    if lack is not None:
        print(f"not run: {lack}", flush=True)
        return Outcome(tier=tier.name, not_run=lack)
    try:
        tier.prepare()
    except CannotPrepareError as error:
        print(f"ERROR: {error}", flush=True)
        return Outcome(tier=tier.name, failed=1, seconds=time.monotonic() - started, trouble=str(error))
    outcome = _run_pytest(tier, started)
    print(f"=== {tier.name}: {outcome.verdict} after {outcome.seconds:.0f} s", flush=True)
    return outcome


@dataclass(frozen=True)
class Counts:
    """What one run of pytest left: its exit code, and its tests by their node ids."""

    code: int
    passed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def _run_pytest(tier: Tier, started: float) -> Outcome:
    first = _pytest(tier, *tier.options, *tier.paths)
    failed = first.failed
    unsteady: tuple[str, ...] = ()
    if first.code == 1 and 0 < len(failed) <= tier.second_look:
        print(f"\n=== {tier.name}: once more, one after another: {' '.join(failed)}", flush=True)
        unsteady = _pytest(tier, *failed).passed
        failed = tuple(test for test in failed if test not in unsteady)
    trouble = ""
    if first.code == NO_TESTS:
        trouble = "no test was found"
    elif first.code != 0 and not first.failed:
        trouble = f"pytest ended with {first.code}"
    return Outcome(
        tier=tier.name,
        passed=len(first.passed) + len(unsteady),
        failed=len(failed) or int(bool(trouble)),
        skipped=len(first.skipped),
        unsteady=unsteady,
        seconds=time.monotonic() - started,
        trouble=trouble,
    )


def _pytest(tier: Tier, *arguments: str) -> Counts:
    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch) / "results.xml"
        verbosity = "-q" if tier.name == "unit" else "-v"
        # This family names the files, as they are seen from the root.
        report = (f"--junitxml={results}", "--override-ini=junit_family=xunit1", f"--rootdir={ROOT}")
        code = _with_signs_of_life([sys.executable, "-m", "pytest", verbosity, *report, *arguments], tier.name)
        return _counts(code, results)


def _with_signs_of_life(command: list[str], what: str) -> int:
    """Runs a command, its output passed on as it comes, with a line when it is silent for long."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if sys.stdout.isatty():
        command = [*command, "--color=yes"]
    started = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        output = process.stdout.fileno()
        try:
            while True:
                readable, _, _ = select.select([output], [], [], QUIET_SECONDS)
                if not readable:
                    print(f"\n    ... {what} goes on, {time.monotonic() - started:.0f} s", flush=True)
                    continue
                chunk = os.read(output, 65536)
                if not chunk:
                    break
                sys.stdout.buffer.write(chunk)
                sys.stdout.flush()
        except BaseException:
            process.send_signal(signal.SIGINT)  # pytest then runs the ends of its fixtures
            process.wait(timeout=120)
            raise
    return process.returncode


def _counts(code: int, results: Path) -> Counts:
    """Passed, failed (errors of set-up and collection too) and skipped, from pytest's own file."""
    if not results.is_file():
        return Counts(code)
    found: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}
    for case in Xml.parse(results).getroot().iter("testcase"):  # noqa: S314 - written by our own pytest a moment ago
        kinds = {child.tag for child in case}
        verdict = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        found[verdict].append(f"{case.get('file')}::{case.get('name')}")
    return Counts(code, *(tuple(found[verdict]) for verdict in ("passed", "failed", "skipped")))


@contextmanager
def _cleaned_up(*chosen: Tier, keep: bool) -> Iterator[list[Outcome]]:
    """Takes down those of the tiers' clusters that were not there before; one that does not go is a failure, too."""
    before, kind_before = tiers.running_clusters(chosen), tiers.kind_exists()
    left: list[Outcome] = []
    try:
        yield left
    finally:
        started = sorted(tiers.running_clusters(chosen) - before)
        if keep and started:
            print(f"\nleft running (--keep): {', '.join(started)}", flush=True)
        elif not keep:
            for name in started:
                print(f"\nending the cluster {name}, which this run started", flush=True)
                if not tiers.remove_local_cluster(name):
                    trouble = f"cluster {name} is not gone whole; the lines above say what is left"
                    print(trouble, flush=True)
                    left.append(Outcome(tier="clean-up", failed=1, trouble=trouble))
        if any(tier.on_kind for tier in chosen) and tiers.kind_exists() and not kind_before and not keep:
            from demo import clusters

            clusters.remove_kind(print)


def _report(outcomes: list[Outcome]) -> None:
    print("\n=== summary")
    print(f"{'tier':12} {'passed':>7} {'failed':>7} {'skipped':>8} {'time':>7}")
    for outcome in outcomes:
        counts = f"{outcome.passed:7} {outcome.failed:7} {outcome.skipped:8} {outcome.seconds:5.0f} s"
        print(f"{outcome.tier:12} {' ' * len(counts) if outcome.not_run else counts}   {outcome.verdict}")
    for test in (test for outcome in outcomes for test in outcome.unsteady):
        print(f"UNSTEADY: failed first and passed when run once more: {test}")
    passed, failed = sum(o.passed for o in outcomes), sum(o.failed for o in outcomes)
    print(f"\n{passed} passed, {failed} failed", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would pass on "ignore"
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
