"""`make generate` and its check: what is stale is named, what is written is the same every time."""

from __future__ import annotations

from pathlib import Path

from hack import generate, quick_yaml


def test_a_file_that_somebody_edited_or_lost_is_stale_until_generated_again(tmp_path: Path) -> None:
    generate.write(tmp_path)
    assert generate.stale(tmp_path) == []
    (tmp_path / "docs/status.md").write_text("edited by hand\n")
    (tmp_path / "crds/modelservices.yaml").unlink()
    assert sorted(generate.stale(tmp_path)) == ["crds/modelservices.yaml", "docs/status.md"]
    assert sorted(generate.write(tmp_path)) == ["crds/modelservices.yaml", "docs/status.md"]
    assert generate.stale(tmp_path) == []


def test_generating_twice_gives_the_same_bytes() -> None:
    assert generate.files() == generate.files()


def test_every_generated_file_says_so() -> None:
    for path, content in generate.files().items():
        if not path.endswith(".json"):
            assert generate.NOTICE in content[:200], path


def test_the_definition_of_the_chart_is_kept_when_the_chart_is_removed() -> None:
    text = generate.files()["charts/nereus/templates/crd.yaml"]
    body = "\n".join(line for line in text.splitlines() if not line.startswith("{{"))
    assert quick_yaml.load(body)["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert ".Values.crds.install" in text
