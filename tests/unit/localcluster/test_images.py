"""What names an image, what a build can see, and that making a base touches nothing but that base."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from localcluster import builders, imagebase, images
from localcluster.report import Refusal

DOCKERFILE = """ARG BASE=python:3.11-slim-bookworm
FROM ${BASE} AS build
COPY requirements/small.txt /tmp/
COPY --chmod=644 package/__init__.py \\
     package/code /app/
FROM ${BASE}
COPY --from=build /app /app
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    files = {
        "images/small/Dockerfile": DOCKERFILE,
        "requirements/small.txt": "one==1\n",
        "package/__init__.py": "",
        "package/code/deep/module.py": "x = 1\n",
        "package/other.py": "not copied\n",
        "README.md": "not copied\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def key(repository: Path, *, base: str = "base") -> str:
    return images.recipe(repository, name="small", base_key=base).key


def test_a_build_sees_exactly_what_its_dockerfile_copies(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    context = tmp_path_factory.mktemp("context")
    images.stage(repository, images.context_files(repository, name="small"), context=context)
    seen = {str(path.relative_to(context)) for path in context.rglob("*") if path.is_file()}
    assert seen == {
        "images/small/Dockerfile",
        "requirements/small.txt",
        "package/__init__.py",
        "package/code/deep/module.py",
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "requirements/small.txt").write_text("one==2\n"),
        lambda root: (root / "images/small/Dockerfile").write_text(DOCKERFILE + "USER 1\n"),
        lambda root: (root / "package/code/deep/module.py").write_text("x = 2\n"),
        lambda root: (root / "package/code/deep/module.py").chmod(0o755),
        lambda root: (root / "package/code/deep/module.py").rename(root / "package/code/deep/renamed.py"),
        lambda root: (root / "package/code/new.py").write_text(""),
    ],
    ids=["requirements", "Dockerfile", "content", "mode", "name", "new file"],
)
def test_a_changed_input_is_a_changed_image(repository: Path, change: Callable[[Path], object]) -> None:
    before = key(repository)
    change(repository)
    assert key(repository) != before


def test_a_changed_base_is_a_changed_image(repository: Path) -> None:
    assert key(repository, base="one") != key(repository, base="two")


def test_what_is_not_copied_changes_no_image(repository: Path) -> None:
    before = key(repository)
    (repository / "README.md").write_text("new words")
    (repository / "package/other.py").write_text("new code")
    bytecode = repository / "package/code/__pycache__/module.cpython-311.pyc"
    bytecode.parent.mkdir()
    bytecode.write_bytes(b"compiled")
    assert key(repository) == before


def test_a_missing_source_is_named_with_its_dockerfile(repository: Path) -> None:
    (repository / "requirements/small.txt").unlink()
    with pytest.raises(builders.ImageError, match=r"Dockerfile: COPY requirements/small.txt: no such file"):
        key(repository)


@pytest.mark.parametrize("name", images.NAMES)
def test_every_image_installs_only_locked_packages_and_is_not_root(name: str) -> None:
    text = (images.ROOT / images.dockerfile_of(name)).read_text()
    assert "--require-hashes" in text
    final = text.rsplit("\nFROM ", 1)[1]
    user = next(line for line in final.splitlines() if line.startswith("USER "))
    assert int(user.removeprefix("USER ").split(":")[0]) > 0
    assert "\nRUN " not in final, "a RUN in the final stage would leave mount points of the building machine in it"


def test_the_sidecar_image_holds_every_module_that_the_sidecar_imports(tmp_path: Path) -> None:
    images.stage(images.ROOT, images.context_files(images.ROOT, name="sidecar"), context=tmp_path)
    # The stores' clients are in the image's own lock only (requirements/fetch.txt): tests/integration imports those.
    program = (
        "import importlib, pkgutil, nereus.cli, nereus.sidecar as room\n"
        "from nereus.sidecar.transfer.schemes import STORES\n"
        "for module in pkgutil.walk_packages(room.__path__, room.__name__ + '.'):\n"
        "    module.name in STORES.values() or importlib.import_module(module.name)\n"
        "print(room.__file__)"
    )
    environment = {"PYTHONPATH": str(tmp_path / "operator"), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path)), "the modules of the checkout were imported, not those of the image"


def test_the_mirror_of_this_machine_is_read_in_both_formats() -> None:
    deb822 = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n"
    one_line = "# deb http://old.example/debian x\ndeb [arch=amd64] https://mirror.example/debian/ x main\n"
    assert imagebase.debian_mirror([deb822]) == "http://mirror.example/debian"
    assert imagebase.debian_mirror([one_line]) == "https://mirror.example/debian/"


def test_the_archive_of_another_distribution_or_product_is_not_taken_for_debian() -> None:
    others = "deb http://mirror.example/ubuntu noble main\ndeb https://packages.example/apt cloud main\n"
    security = "Types: deb\nURIs: http://mirror.example/debian-security\n"
    assert imagebase.debian_mirror([others, security]) is None


def test_the_environment_wins_over_pip_files_and_unrelated_settings_stay_out(tmp_path: Path) -> None:
    conf = tmp_path / "pip.conf"
    conf.write_text("[global]\nindex-url = https://file.example/simple\nno-color = true\ncert = /ca.crt\n")
    text = builders.pip_settings([conf], {"PIP_INDEX_URL": "https://env.example/simple", "PIP_FIND_LINKS": "/wheels"})
    assert text == "[global]\nindex-url = https://env.example/simple\ncert = /ca.crt\n"
    assert builders.pip_settings([], {}) == ""


def test_old_archives_go_and_the_newest_and_the_asked_for_stay(tmp_path: Path) -> None:
    archives = [tmp_path / f"operator-{number}.oci.tar" for number in range(6)]
    for age, archive in enumerate(archives):
        archive.touch()
        os.utime(archive, (1000 - age, 1000 - age))
    other = tmp_path / "sidecar-0.oci.tar"
    other.touch()
    images.prune(tmp_path, keep=[archives[5]])
    assert sorted(tmp_path.iterdir()) == sorted([*archives[: images.KEPT_ARCHIVES], archives[5], other])


def test_the_record_keeps_what_was_not_built_this_time(tmp_path: Path) -> None:
    for name, reference in (("operator", "o:1"), ("sidecar", "s:1"), ("operator", "o:2")):
        images.record(tmp_path, [images.Image(name=name, reference=reference, archive=tmp_path / reference)])
    recorded = json.loads((tmp_path / "images.json").read_text())
    assert {name: entry["reference"] for name, entry in recorded.items()} == {"operator": "o:2", "sidecar": "s:1"}


def test_a_failing_tool_is_one_line_with_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(builders.ImageError) as failure:
        builders.run_logged(["sh", "-c", "echo first; echo the reason; exit 7"], label="operator", log=log)
    assert str(failure.value) == f"operator failed (exit 7; log: {log}): first | the reason"


# --- a root file system is trimmed without touching the machine that builds it -------------------------------------


def root_file_system(root: Path, *, unwanted_files: list[str], script: str) -> None:
    info = root / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (root / "usr/share/doc").mkdir(parents=True)
    for name in ("usr/bin/dash", "usr/bin/tool", "usr/share/both/kept"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "var/lib/dpkg/status").write_text(
        "Package: dash\nStatus: install ok installed\n\nPackage: tool\nStatus: install ok installed\n"
    )
    (info / "dash.list").write_text("/usr\n/usr/bin\n/usr/bin/dash\n/usr/share/both\n/usr/share/both/kept\n")
    (info / "tool.list").write_text(
        "\n".join(["/usr", "/usr/bin", "/usr/bin/tool", "/usr/share/both", *unwanted_files])
    )
    for kind in ("prerm", "postrm"):
        (info / f"tool.{kind}").write_text(f"#!/bin/sh\n{script}\n")
        (info / f"tool.{kind}").chmod(0o755)


def test_trimming_removes_a_package_and_keeps_the_others(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root_file_system(root, unwanted_files=["/usr/share/tool", "/gone-already"], script="exit 1")
    (root / "usr/share/tool").mkdir()
    imagebase.trim(root)
    assert not (root / "usr/bin/tool").exists()
    assert not (root / "usr/share/tool").exists()
    assert (root / "usr/bin/dash").exists()
    assert (root / "usr/share/both/kept").exists()
    assert (root / "var/lib/dpkg/status").read_text() == "Package: dash\nStatus: install ok installed\n"


def test_no_package_script_runs_on_the_building_machine(tmp_path: Path) -> None:
    root, witness = tmp_path / "root", tmp_path / "witness"
    root_file_system(root, unwanted_files=[], script=f"touch {witness}")
    imagebase.trim(root)
    assert not (root / "usr/bin/tool").exists()
    assert not witness.exists()


def test_a_link_out_of_the_root_file_system_is_refused_and_not_followed(tmp_path: Path) -> None:
    root, machine = tmp_path / "root", tmp_path / "machine"
    machine.mkdir()
    (machine / "precious").write_text("of this machine")
    root_file_system(root, unwanted_files=["/var/run/precious"], script="exit 0")
    (root / "var/run").symlink_to(machine)
    with pytest.raises(Refusal, match="nothing there was touched"):
        imagebase.trim(root)
    assert (machine / "precious").read_text() == "of this machine"


def test_an_unused_directory_that_is_a_link_is_not_emptied(tmp_path: Path) -> None:
    root, machine = tmp_path / "root", tmp_path / "machine"
    machine.mkdir()
    (machine / "precious").write_text("of this machine")
    root_file_system(root, unwanted_files=[], script="exit 0")
    (root / "var/cache").symlink_to(machine)
    imagebase.trim(root)
    assert (machine / "precious").read_text() == "of this machine"
