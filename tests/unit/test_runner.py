"""`make test` tells the truth: what failed, what could not run and why, and what it counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import __main__ as runner
from tests import tiers
from tests.tiers import CannotPrepareError, Tier


@pytest.fixture(autouse=True)
def _bare_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs inside these tests load no plug-ins: they need none, and loading them is most of what a run costs."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "")


def tier(tmp_path: Path, body: str, *, lack: str | None = None, trouble: str = "", second_look: int = 0) -> Tier:
    """A tier whose only file has this content."""
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tmp_path / "test_it.py").write_text(body)

    def prepare() -> None:
        if trouble:
            raise CannotPrepareError(trouble)

    return Tier(name="unit", paths=(str(tmp_path),), lack=lambda: lack, prepare=prepare, second_look=second_look)


def test_passed_failed_broken_and_skipped_tests_are_counted(tmp_path: Path) -> None:
    body = (
        "import pytest\n"
        "def test_a(): pass\n"
        "def test_b(): assert False\n"
        "@pytest.fixture\ndef broken(): raise OSError\n"
        "def test_c(broken): pass\n"
        "def test_d(): pytest.skip('not here')\n"
    )
    outcome = runner.run(tier(tmp_path, body))
    assert (outcome.passed, outcome.failed, outcome.skipped) == (1, 2, 1)
    assert outcome.verdict == "FAILED"


UNSTEADY = """
import pathlib
MARK = pathlib.Path(__file__).with_name("mark")
def test_steady(): pass
def test_unsteady():
    first = not MARK.exists()
    MARK.touch()
    assert not first
"""


def test_what_passes_only_at_the_second_look_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outcome = runner.run(tier(tmp_path, UNSTEADY, second_look=1))
    assert (outcome.passed, outcome.failed, outcome.verdict) == (2, 0, "passed")
    (name,) = outcome.unsteady
    assert name.endswith("test_it.py::test_unsteady")
    runner._report([outcome])
    assert f"UNSTEADY: failed first and passed when run once more: {name}" in capfd.readouterr().out


def test_a_test_that_fails_twice_or_beside_too_many_others_has_failed(tmp_path: Path) -> None:
    outcome = runner.run(tier(tmp_path, f"{UNSTEADY}\ndef test_b(): assert False", second_look=2))
    assert (outcome.passed, outcome.failed, len(outcome.unsteady)) == (2, 1, 1)
    (tmp_path / "mark").unlink()
    outcome = runner.run(tier(tmp_path, f"{UNSTEADY}\ndef test_b(): assert False", second_look=1))
    assert (outcome.passed, outcome.failed, outcome.unsteady) == (1, 2, ())


def test_a_unit_test_has_no_second_look() -> None:
    assert {tier.name: tier.second_look for tier in tiers.TIERS}["unit"] == 0


def test_a_tier_without_tests_fails(tmp_path: Path) -> None:
    outcome = runner.run(tier(tmp_path, ""))
    assert (outcome.passed, outcome.failed) == (0, 1)
    assert outcome.verdict == "FAILED: no test was found"


def test_a_tier_that_cannot_be_read_fails(tmp_path: Path) -> None:
    assert runner.run(tier(tmp_path, "def test_a(:")).failed == 1


def test_a_tier_that_the_machine_cannot_run_is_not_passed_and_says_why(tmp_path: Path) -> None:
    outcome = runner.run(tier(tmp_path, "def test_a(): pass", lack="no go command found: install Go"))
    assert (outcome.passed, outcome.failed) == (0, 0)
    assert outcome.verdict == "not run: no go command found: install Go"


def test_a_cluster_that_does_not_start_is_a_failure_and_no_excuse(tmp_path: Path) -> None:
    outcome = runner.run(tier(tmp_path, "def test_a(): pass", trouble="etcd ended right after its start"))
    assert (outcome.passed, outcome.failed) == (0, 1)


def test_a_run_in_which_no_tier_could_run_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "TIERS", (tier(tmp_path, "", lack="not here"),))
    monkeypatch.setattr("sys.argv", ["tests", "unit"])
    assert runner.main() == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 0 failed"


def test_a_tier_beside_others_leaves_its_outcome(tmp_path: Path) -> None:
    passed, broken = tmp_path / "passed", tmp_path / "broken"
    passed.mkdir()
    broken.mkdir()
    assert runner._one_of_many(tier(passed, UNSTEADY, second_look=1), keep=False, outcome=tmp_path / "outcome") == 0
    outcome = runner._outcome("unit", tmp_path / "outcome", 0)
    assert (outcome.verdict, outcome.passed, len(outcome.unsteady)) == ("passed", 2, 1)
    runner._one_of_many(tier(broken, "def test_b(): assert False"), keep=False, outcome=tmp_path / "outcome")
    assert runner._outcome("unit", tmp_path / "outcome", 0).failed == 1


def test_a_tier_whose_process_dies_has_failed(tmp_path: Path) -> None:
    outcome = runner._outcome("e2e", tmp_path / "never", -9)
    assert (outcome.failed, outcome.verdict) == (1, "FAILED: its process ended with -9")


@pytest.mark.parametrize("goes", [True, False])
def test_a_cluster_that_is_not_gone_whole_after_the_run_is_a_failure(
    goes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    present = iter([frozenset[str](), frozenset({"nereus-test-0"})])
    monkeypatch.setattr(tiers, "running_clusters", lambda _chosen: next(present))
    monkeypatch.setattr(tiers, "remove_local_cluster", lambda _name: goes)
    monkeypatch.setattr(runner, "TIERS", (tier(tmp_path, "def test_a(): pass"),))
    monkeypatch.setattr("sys.argv", ["tests", "unit"])
    assert runner.main() == (0 if goes else 1)
    out = capfd.readouterr().out
    assert out.splitlines()[-1] == f"1 passed, {0 if goes else 1} failed"
    assert ("cluster nereus-test-0 is not gone whole" in out) is not goes


def test_a_user_without_rights_is_told_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLUSTER", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    lacks = {tier.name: tier.lack() for tier in tiers.TIERS}
    assert lacks["unit"] is None
    for name in ("integration", "e2e"):
        assert lacks[name] == "a local cluster needs root for namespaces, mounts and cgroups: run again with sudo -E"
