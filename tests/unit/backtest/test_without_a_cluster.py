"""`nereus backtest` on a laptop: it needs the packages of its extra, and none of those of the operator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.tiers import ROOT

ONLY = """
import sys

class Only:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ALLOWED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=top)

ALLOWED = {"nereus", *sys.argv[1].split(",")}
sys.meta_path.insert(0, Only())
from nereus.cli import main
sys.exit(main(["backtest", *sys.argv[2:]]))
"""
OF_PROMETHEUS = "prometheus_api_client,requests,urllib3,certifi,idna,charset_normalizer,dateparser,dateutil,pytz,regex"


def backtest(packages: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command where only these packages can be imported."""
    return subprocess.run(
        [sys.executable, "-c", ONLY, packages, *arguments, "--cold-start", "60s"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "operator")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_its_packages_are_those_of_its_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {need.partition(">")[0] for need in extras["backtest"]} == {"numpy", "prometheus-api-client"}


def test_a_file_is_replayed_with_numpy_alone(tmp_path: Path) -> None:
    load = tmp_path / "load.csv"
    load.write_text("t,requests\n" + "".join(f"{60 * i},{600 + i % 7 * 100}\n" for i in range(150)))
    made = tmp_path / "report.json"
    only = ["--policy", "nereus", "--policy", "static", "--no-sweep"]
    done = backtest("numpy", "--trace", str(load), "--json", str(made), *only)
    assert done.returncode == 0, done.stderr
    assert [row["policy"] for row in json.loads(made.read_text())["policies"]] == ["nereus", "static"]


def test_a_prometheus_is_read_with_its_client_or_the_client_is_named() -> None:
    asked = ["--prometheus", "http://127.0.0.1:1", "--query", "x", "--history", "2h"]
    done = backtest(f"numpy,{OF_PROMETHEUS},tzlocal,six", *asked)
    assert (done.returncode, "127.0.0.1:1 cannot be reached" in done.stderr) == (2, True), done.stderr
    done = backtest("numpy", *asked)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "--prometheus needs the package" in done.stderr
    assert "pip install '.[backtest]'" in done.stderr
