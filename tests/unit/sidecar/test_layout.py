"""People lay out models in several ways; each ends as version directories that Triton knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from nereus.sidecar import layout
from nereus.sidecar.fetch.base import FetchError
from nereus.sidecar.layout import Layout


def tree(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("content")
    return root


def read(root: Path, *, descend: bool = True) -> Layout:
    return layout.read(root, shown="the source", descend=descend)


def test_a_triton_model_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    found = read(tree(tmp_path, "config.pbtxt", "1/model.onnx", "3/model.onnx", "labels.txt", ".git/x"))
    assert found.versions == (1, 3)
    assert found.config == tmp_path / "config.pbtxt"
    assert set(found.entries) == {"1", "3", "labels.txt"}


def test_a_directory_that_wraps_the_model_is_looked_into(tmp_path: Path) -> None:
    found = read(tree(tmp_path, "resnet/config.pbtxt", "resnet/1/model.onnx", "__MACOSX/._resnet"))
    assert found.versions == (1,)
    assert found.config == tmp_path / "resnet/config.pbtxt"


def test_a_plain_directory_of_weights_is_version_1(tmp_path: Path) -> None:
    found = read(tree(tmp_path, "weights.bin", "vocabulary/words.txt"))
    assert found.versions == (1,)
    assert found.entries == {"1": tmp_path}


def test_a_flat_directory_with_a_configuration_is_version_1_and_its_other_files_are_found_beside_it(
    tmp_path: Path,
) -> None:
    found = read(tree(tmp_path, "config.pbtxt", "model.onnx", "labels.txt"))
    assert found.entries == {
        "1": tmp_path,
        "model.onnx": tmp_path / "model.onnx",
        "labels.txt": tmp_path / "labels.txt",
    }


def test_a_model_file_that_is_a_directory_is_not_looked_into(tmp_path: Path) -> None:
    found = read(tree(tmp_path, "model.savedmodel/saved_model.pb"))
    assert found.entries == {"1": tmp_path}


def test_a_mounted_directory_is_taken_at_its_word(tmp_path: Path) -> None:
    found = read(tree(tmp_path, "resnet/1/model.onnx"), descend=False)
    assert found.entries == {"1": tmp_path}


def test_a_configuration_alone_has_no_versions(tmp_path: Path) -> None:
    assert read(tree(tmp_path, "config.pbtxt")).versions == ()


def test_an_empty_source_and_empty_versions_are_said(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="holds no files"):
        read(tmp_path)
    (tmp_path / "1").mkdir()
    with pytest.raises(FetchError, match=r"every version directory \(1\) is empty"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["0", "01", "v1", "١", "1a"])
def test_what_is_no_version_number_is_no_version(tmp_path: Path, name: str) -> None:
    found = read(tree(tmp_path, f"{name}/model.onnx", "other/x"))
    assert found.entries == {"1": tmp_path}


def test_a_version_that_is_asked_for_and_missing_is_named(tmp_path: Path) -> None:
    found = read(tree(tmp_path, "1/model.onnx", "2/model.onnx"))
    layout.check_versions(found, (1, 2), shown="s3")
    with pytest.raises(FetchError, match="has no version 7; it has 1, 2"):
        layout.check_versions(found, (2, 7), shown="the source")
