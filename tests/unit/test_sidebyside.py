"""Commands that run at once share one screen: whole lines, with names; and they end when they are told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import sidebyside
from tests.tiers import ROOT

WAIT = """
import pathlib, sys, time
def wait(name, deadline=time.monotonic() + 30):
    while not pathlib.Path(name).exists():
        assert time.monotonic() < deadline, f"no {name}"
        time.sleep(0.01)
def say(text):
    print(text, end="", flush=True)
def mark(name):
    pathlib.Path(name).touch()
"""


def script(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", f"{WAIT}\n{text}")


def test_lines_are_whole_also_when_they_are_written_in_parts_by_turns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = "say('one '); mark('a'); wait('b'); say('two\\n\\nlast, without an end')"
    second = "wait('a'); say('three '); mark('b'); say('four\\n'); sys.exit(3)"
    codes = sidebyside.run({"x": script(first), "long": script(second)}, directory=tmp_path)
    assert codes == {"x": 0, "long": 3}
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("x")] == [
        "x    | one two",
        "x    |",
        "x    | last, without an end",
    ]
    assert [line for line in lines if line.startswith("long")] == ["long | three four"]


def test_what_a_command_leaves_behind_holds_nothing_up(tmp_path: Path) -> None:
    """A process that outlives its command keeps its output open."""
    left = "import subprocess; say(subprocess.Popen(['sleep', '600']).pid)"
    command = [
        sys.executable,
        "-c",
        f"from tests import sidebyside; sidebyside.run({{'x': {script(left)!r}}}, directory='.')",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    os.kill(int(done.stdout.removeprefix("x | ")), signal.SIGKILL)


ENDING = """
import signal
def clean(*_):
    say('cleaning up\\n'); mark('cleaned')
    sys.exit(130)
signal.signal(signal.SIGINT, clean)
mark('started')
wait('never')
"""


def test_who_is_told_to_end_tells_its_commands_and_shows_what_they_clean_up(tmp_path: Path) -> None:
    code = f"from tests import sidebyside; sidebyside.run({{'x': {script(ENDING)!r}}}, directory={str(tmp_path)!r})"
    with subprocess.Popen(
        [sys.executable, "-c", f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {code}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        subprocess.run([*script("wait('started')")], cwd=tmp_path, check=True)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert "x | cleaning up" in output
    assert (tmp_path / "cleaned").exists()
    assert "KeyboardInterrupt" in errors
