"""What is built, under which key, and which images come of it."""

import re
from pathlib import Path

import pytest

from localcluster import build, oci, packages


def test_versions_are_read_from_go_mod_wherever_they_stand() -> None:
    text = "module x\n\nrequire a.io/one v1.2.3\n\nrequire (\n\ta.io/two v0.5.0 // indirect\n)\n"
    assert build.version_in(text, "a.io/one") == "1.2.3"
    assert build.version_in(text, "a.io/two") == "0.5.0"
    with pytest.raises(LookupError):
        build.version_in(text, "a.io/three")


def test_all_staging_modules_follow_the_version_of_kubernetes() -> None:
    text = (build.KUBERNETES.dir / "go.mod").read_text()
    minor = build.required_version(build.KUBERNETES, "k8s.io/kubernetes").removeprefix("1.")
    replaced = re.findall(r"^\s*k8s\.io/(\S+) => k8s\.io/(\S+) v0\.(\S+)$", text, re.MULTILINE)
    assert len(replaced) == 31
    assert all(old == new and version == minor for old, new, version in replaced)


def test_the_api_server_is_told_its_version() -> None:
    version = build.required_version(build.KUBERNETES, "k8s.io/kubernetes")
    assert f"gitVersion=v{version}" in build.linker_flags(build.KUBERNETES)


def test_another_go_or_another_source_is_another_key() -> None:
    key = build.module_key(build.PAUSE, go_version="go1.26.8")
    assert key == build.module_key(build.PAUSE, go_version="go1.26.8")
    assert key != build.module_key(build.PAUSE, go_version="go1.26.9")
    assert key != build.module_key(build.ETCD, go_version="go1.26.8")


@pytest.mark.parametrize(("text", "numbers"), [("go1.26.8", (1, 26, 8)), ("go1.26rc1", (1, 26, 0)), ("devel", None)])
def test_go_versions_are_compared_as_numbers(text: str, numbers: tuple[int, ...] | None) -> None:
    assert build.parse_go_version(text) == numbers


def test_every_module_has_its_sums_committed() -> None:
    for module in build.MODULES:
        if "require" in (module.dir / "go.mod").read_text():
            assert (module.dir / "go.sum").stat().st_size > 0


def test_a_tool_that_is_there_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(packages.PACKAGES, "nereus-no-such-tool", "some-package")
    assert packages.missing_packages(["mount"]) == []
    assert packages.missing_packages(["mount", "nereus-no-such-tool"]) == ["some-package"]


def test_every_tool_of_a_profile_has_a_package() -> None:
    assert set(packages.NODE_TOOLS) <= set(packages.PACKAGES)


def test_the_image_of_one_program_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"\x7fELF" + b"\0" * 14 + b"\x3e\x00" + b"\0" * 40)
    one, two = tmp_path / "one.tar", tmp_path / "two.tar"
    for archive in (one, two):
        oci.write_program_image(program, image="localhost/pause:local", archive=archive)
    assert one.read_bytes() == two.read_bytes()
    assert list(oci.archive_images(one)) == ["localhost/pause:local"]
    assert oci.machine_architecture(program) == "amd64"
