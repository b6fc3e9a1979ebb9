"""Each check of an image finds what it is for, and nothing in an image that is right; the locks are free of what is
known to be weak."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from hack import image_checks
from hack.image_checks import File, Image
from tests.tiers import ROOT

LOCKED = {"aiohttp": "3.14.0"}
PACKAGE = "opt/nereus/lib/python3.11/site-packages/aiohttp-{}.dist-info"
GOOD = {
    "tmp": File(0o1777, 0, is_directory=True),
    "usr/bin/python3": File(0o755, 0),
    "usr/bin/su": File(0o777, 0, is_link=True),
    PACKAGE.format("3.14.0"): File(0o755, 0, is_directory=True),
}
CONFIG = {"User": "65532:65532", "Env": ["PATH=/bin"]}


def checks(files: dict[str, File], config: dict[str, object] | None = None) -> set[str]:
    return {check for check, _ in image_checks.found(Image({**GOOD, **files}, config or CONFIG), LOCKED)}


def test_an_image_that_is_right_passes() -> None:
    assert checks({}) == set()


@pytest.mark.parametrize(
    ("path", "file", "check"),
    [
        ("usr/bin/chsh", File(0o4755, 0), "setuid"),
        ("app/open", File(0o666, 0), "world-writable"),
        ("var/spool", File(0o777, 0, is_directory=True), "world-writable"),
        ("app/nereus/cli.py", File(0o644, 65532), "own-code"),
        ("root/.netrc", File(0o600, 0), "secret"),
        ("etc/tls.key", File(0o600, 0), "secret"),
        ("usr/bin/pip3", File(0o755, 0), "installer"),
        ("opt/nereus/bin/gcc", File(0o755, 0), "compiler"),
        ("usr/local/bin/curl", File(0o755, 0), "fetcher"),
        ("usr/sbin/su", File(0o755, 0), "raiser"),
        ("bin/sh", File(0o755, 0), "shell"),
        ("x/leftover-1.0.dist-info", File(0o755, 0, is_directory=True), "locked"),
    ],
)
def test_one_thing_that_is_wrong_is_found(path: str, file: File, check: str) -> None:
    assert checks({path: file}) == {check}


@pytest.mark.parametrize("user", ["", "root", "1000", "0:0"])
def test_a_user_that_may_be_one_of_the_nodes_is_found(user: str) -> None:
    assert "user" in checks({}, {"User": user})


def test_a_secret_in_the_environment_is_found() -> None:
    assert checks({}, {**CONFIG, "Env": ["API_TOKEN=x"]}) == {"secret"}


def test_a_package_that_is_known_to_be_weak_is_found_also_when_it_is_locked() -> None:
    old = Image({PACKAGE.format("3.10.2"): File(0o755, 0, is_directory=True)}, CONFIG)
    assert {check for check, _ in image_checks.found(old, {"aiohttp": "3.10.2"})} == {"weak"}


def test_an_exception_that_nothing_needs_is_a_problem() -> None:
    told = image_checks.unexplained([("shell", "/bin/sh")], {"shell": "why", "secret": "why"})
    assert told == ["the exception secret is not needed any more: take it out of hack/image_checks.py"]


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_what_is_locked_has_hashes_and_no_published_weakness(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    found = image_checks.locked(text)
    assert found
    assert [*image_checks.unhashed(text)] == []
    assert [what for name, version in found.items() for what in image_checks.weak(name, version)] == []


def test_a_package_without_a_hash_is_found() -> None:
    assert [*image_checks.unhashed("a==1 \\\n    --hash=sha256:00\nb==2\n")] == [("hash", "b==2 has no hash")]


def test_what_a_later_layer_takes_away_is_not_in_the_image(tmp_path: Path) -> None:
    def tar(*members: tuple[str, bytes]) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name, data in members:
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        return out.getvalue()

    layers = [tar(("./usr/bin/apt", b""), ("etc/kept", b"")), tar(("usr/bin/.wh.apt", b""))]
    blobs = {
        "blobs/sha256/l0": layers[0],
        "blobs/sha256/l1": layers[1],
        "blobs/sha256/c": json.dumps({"config": CONFIG}).encode(),
        "blobs/sha256/m": json.dumps(
            {"config": {"digest": "sha256:c"}, "layers": [{"digest": "sha256:l0"}, {"digest": "sha256:l1"}]}
        ).encode(),
        "index.json": json.dumps({"manifests": [{"digest": "sha256:m"}]}).encode(),
    }
    archive = tmp_path / "image.tar"
    archive.write_bytes(tar(*blobs.items()))
    image = image_checks.read(archive)
    assert set(image.files) == {"etc/kept"}
    assert image.config == CONFIG
