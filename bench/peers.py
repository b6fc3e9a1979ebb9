"""Runs the forecasters of others (`peer_models.py`) in their own cached environment, one process per load and model.

They are heavy, so they forecast at every 101st minute only (which meets every minute of the hour in time); whoever is
compared with them is judged at the same minutes. What cannot be installed or fails says so in one line and is left out.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.peer_models import MODELS
from nereus.backtest.world import Floats, Ints

LOCK = Path(__file__).parent.parent / "requirements" / "bench.txt"
STRIDE = 101
INSTALL_SECONDS, RUN_SECONDS = 1200, 1800
NOT_ENOUGH_ERRORS = 15
"""Before so many known errors a bound is a guess; scoring starts later than that."""


def python(say: Callable[[str], None]) -> Path | None:
    """The interpreter of the peers' environment, made on first use; `None` (and one line why) when that fails."""
    root = os.environ.get("NEREUS_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nereus"
    place = Path(root) / "bench-venv" / hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    found = place / "bin" / "python"
    if (place / ".complete").exists():
        return found
    say("installing the peers into the cache (once per lock file)")
    try:
        venv.create(place, clear=True, with_pip=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"]
        command = [str(found), *install, str(LOCK)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        say(f"peers left out: their environment cannot be made: {error}")
        return None
    if done.returncode:
        say(f"peers left out, they cannot be installed: {(done.stderr.strip().splitlines() or ['pip failed'])[-1]}")
        return None
    (place / ".complete").touch()
    return found


def origins(scored: slice) -> Ints:
    """Minutes at which the peers forecast: as many as a bound needs before the scored part, and then through it."""
    lead = (NOT_ENOUGH_ERRORS + 1) * STRIDE
    return np.arange(max(scored.start - lead, STRIDE), scored.stop, STRIDE)


def paths(
    interpreter: Path, load: Floats, at: Ints, steps: int, *, say: Callable[[str], None]
) -> dict[str, tuple[Floats, float]]:
    """Per model that worked: the forecasts of the next minutes (origins, steps), and CPU seconds per forecast."""
    made = {}
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.npz"
        np.savez(task, load=load, origins=at, steps=steps)
        for name in MODELS:
            answer = Path(folder) / "answer.npz"
            command = [str(interpreter), str(Path(__file__).parent / "peer_models.py"), name, str(task), str(answer)]
            try:
                subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=True)
            except subprocess.CalledProcessError as error:
                say(f"{name} left out: {(error.stderr.strip().splitlines() or ['no message'])[-1]}")
                continue
            except subprocess.TimeoutExpired:
                say(f"{name} left out: took longer than {RUN_SECONDS} s")
                continue
            with np.load(answer) as found:
                made[name] = (np.asarray(found["path"]), float(found["seconds"]) / len(at))
    return made


def bounds(point: Floats, target: Floats, at: Ints, horizon: int, *, level: float, epsilon: float) -> Floats:
    """Each point moved by the quantile of all log errors whose window had passed; `nan` while there are too few."""
    error = np.log(np.maximum(target, 0) + epsilon) - np.log(np.maximum(point, 0) + epsilon)
    made = np.full(len(at), np.nan)
    for index, origin in enumerate(at):
        known = error[: int(np.searchsorted(at, origin - horizon, side="right"))]
        if len(known) >= NOT_ENOUGH_ERRORS:
            made[index] = (max(point[index], 0) + epsilon) * np.exp(np.quantile(known, level)) - epsilon
    return made
