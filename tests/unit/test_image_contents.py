"""What an image holds of Nereus is enough for its command: its files alone, as its Dockerfile names them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiers import ROOT


def copied(dockerfile: Path, into: Path) -> None:
    """What the COPY lines of a Dockerfile take from the operator's directory."""
    for line in dockerfile.read_text().splitlines():
        words = line.split()
        if not words or words[0] != "COPY" or not words[1].startswith("operator/"):
            continue
        *sources, target = words[1:]
        for source in sources:
            found, place = ROOT / source, into / target.lstrip("/")
            if found.is_dir():
                shutil.copytree(found, place, dirs_exist_ok=True)
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(found, place)


@pytest.mark.parametrize(("image", "command"), [("agent", "agent"), ("sidecar", "sidecar"), ("operator", "run")])
def test_the_command_of_an_image_starts_with_the_files_of_the_image(image: str, command: str, tmp_path: Path) -> None:
    copied(ROOT / "images" / image / "Dockerfile", tmp_path)
    assert (tmp_path / "app/nereus/__init__.py").exists()
    done = subprocess.run(
        [sys.executable, "-m", "nereus", command, "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "app"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
