"""The command as a person types it."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from hack import quick_yaml
from nereus import __version__
from nereus.api import names
from nereus.cli import main

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "examples" / "quickstart.yaml"


def test_render_prints_every_object_with_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", str(QUICKSTART)]) == 0
    printed = capsys.readouterr().out
    documents = quick_yaml.load_all(printed)
    titles = [line for line in printed.splitlines() if line.startswith("# ")]
    assert len(titles) == len(documents) == 6
    for title, document in zip(titles, documents, strict=True):
        assert title.startswith(f"# {document['kind']} default/{document['metadata']['name']}: ")
    assert "&id" not in printed, "anchors are hard to read"


def test_render_takes_images_from_flags_before_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEREUS_TRITON_IMAGE", "from-environment:1")
    monkeypatch.setenv("NEREUS_SIDECAR_IMAGE", "from-environment:2")
    assert main(["render", str(QUICKSTART), "--triton-image=from-flag:1", "--pod-monitor"]) == 0
    printed = capsys.readouterr().out
    assert "image: from-flag:1" in printed
    assert "image: from-environment:2" in printed
    assert "kind: PodMonitor" in printed


def test_render_reads_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(QUICKSTART.read_text()))
    assert main(["render", "-"]) == 0
    assert "kind: Deployment" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "kind: ModelService\nmetadata: {name: bad}\nspec: {models: [], sped: 1}",
            ["ModelService bad", "spec.sped", "spec.models"],
        ),
        ("kind: ModelService\nspec: {models: [{name: m}]}", ["metadata.name: is required"]),
        ("kind: ConfigMap", ["no ModelService found"]),
        ("a: [", ["is not YAML", "line 1"]),
        ("- 1", ["a Kubernetes object was expected"]),
        ("\u0000", ["is not YAML"]),
    ],
)
def test_a_file_that_cannot_be_rendered_is_explained(
    text: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "service.yaml"
    file.write_text(text)
    assert main(["render", str(file)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    for word in (str(file), *words):
        assert word in printed.err


def test_one_bad_service_does_not_hide_the_good_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("kind: ModelService\nmetadata: {name: bad}\nspec: {}")
    assert main(["render", str(tmp_path / "absent.yaml"), str(bad), str(QUICKSTART)]) == 1
    printed = capsys.readouterr()
    assert "name: quickstart" in printed.out
    assert "absent.yaml: cannot be read" in printed.err
    assert "ModelService bad: spec: exactly one of models and repository is required" in printed.err


def test_crd_prints_the_definition(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crd"]) == 0
    definition = quick_yaml.load(capsys.readouterr().out)
    assert definition["metadata"]["name"] == f"{names.PLURAL}.{names.GROUP}"


def test_version_is_that_of_the_package() -> None:
    command = [sys.executable, "-m", "nereus", "version"]
    done = subprocess.run(command, cwd=ROOT / "operator", capture_output=True, text=True, check=True)
    assert done.stdout == f"nereus {__version__}\n"


def test_a_reader_who_went_away_ends_it_without_a_word() -> None:
    command = [sys.executable, "-m", "nereus", "crd"]
    with subprocess.Popen(
        command, cwd=ROOT / "operator", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # long before it writes: a pipe may hold more than it has to say
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_the_sidecars_command_needs_nothing_that_its_image_lacks() -> None:
    """Its image has no YAML, no pydantic and no kopf, and none of the rooms that render."""
    code = (
        "import sys; from nereus.cli import main\n"
        "try: main(['sidecar', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'yaml', 'pydantic', 'kopf', 'nereus.rendering'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "operator", capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("kind", "alert"), [("fleet", "NereusLatencyHigh"), ("operator", "NereusWatchdog")])
def test_rules_for_a_plain_prometheus_are_printed_without_a_file(
    capsys: pytest.CaptureFixture[str], kind: str, alert: str
) -> None:
    assert main(["render", "--rules", kind]) == 0
    assert f"alert: {alert}" in capsys.readouterr().out


def test_rules_of_the_services_in_a_file_are_printed_instead_of_objects(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "--rules", "service", "examples/full.yaml"]) == 0
    printed = capsys.readouterr().out
    assert "name: nereus/" in printed
    assert "kind:" not in printed
