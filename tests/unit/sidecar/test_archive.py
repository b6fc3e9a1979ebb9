"""An archive is made by somebody else: nothing of it may end up outside, and a damaged one is named as such."""

from __future__ import annotations

import io
import random
import stat
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nereus.sidecar.archive import is_archive, unpack
from nereus.sidecar.fetch.base import FetchError, Limits, Progress

Member = tuple[str, str, str]
"""kind (file, dir, sym, hard, pipe), name, content or target"""


def make_tar(path: Path, members: list[Member], mode: str = "w:gz") -> Path:
    kinds = {"dir": tarfile.DIRTYPE, "sym": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "pipe": tarfile.FIFOTYPE}
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for kind, name, content in members:
            info = tarfile.TarInfo(name)
            if kind == "file":
                info.size = len(content.encode())
                tar.addfile(info, io.BytesIO(content.encode()))
            else:
                info.type, info.linkname = kinds[kind], content
                tar.addfile(info)
    return path


def make_zip(path: Path, members: list[Member]) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # of the same name twice, which is the point of one test
        for kind, name, content in members:
            info = zipfile.ZipInfo(name if kind != "dir" else f"{name}/")
            if kind == "sym":
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, content if kind != "dir" else "")
    return path


MAKERS: dict[str, Callable[[Path, list[Member]], Path]] = {
    "m.tar.gz": make_tar,
    "m.tar": lambda path, members: make_tar(path, members, "w"),
    "m.zip": make_zip,
}


@pytest.fixture(params=sorted(MAKERS))
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[list[Member]], Path]:
    return lambda members: MAKERS[request.param](tmp_path / request.param, members)


def unpacked(archive: Path, limits: Limits | None = None) -> Path:
    into = archive.parent / "inner" / "tree"
    into.mkdir(parents=True)
    unpack(archive, into, name=archive.name, limits=limits or Limits(), progress=Progress())
    return into


def nothing_outside(archive: Path) -> bool:
    outside = {path for path in archive.parent.rglob("*") if "tree" not in path.parts}
    return outside == {archive, archive.parent / "inner"}


def test_files_directories_and_links_inside_come_out_as_they_are(make: Callable[[list[Member]], Path]) -> None:
    tree = unpacked(
        make([("dir", "model/1", ""), ("file", "model/1/model.py", "print(1)"), ("sym", "model/latest", "1/model.py")])
    )
    assert (tree / "model/1/model.py").read_text() == "print(1)"
    assert (tree / "model/latest").read_text() == "print(1)"


@pytest.mark.parametrize(
    "members",
    [
        [("file", "../evil", "x")],
        [("file", "a/../../evil", "x")],
        [("file", "/evil-of-nereus-test", "x")],
        [("sym", "up", "../../.."), ("file", "up/evil", "x")],
        [("sym", "passwd", "/etc/passwd")],
        [("sym", "passwd", "../../../../../../../../etc/passwd")],
        [("file", "a/b/x", "x"), ("sym", "a/b/c", "../.."), ("sym", "d", "a/b/c/../..")],
        [("sym", "gone", "nothing")],
        [("sym", "loop", "loop")],
    ],
    ids=lambda members: " ".join(member[1] for member in members),
)
def test_what_would_leave_the_directory_is_refused(make: Callable[[list[Member]], Path], members: list[Member]) -> None:
    archive = make(members)
    with pytest.raises(FetchError):
        unpacked(archive)
    assert nothing_outside(archive), list(archive.parent.rglob("*"))
    assert not Path("/evil-of-nereus-test").exists()


@pytest.mark.parametrize(
    "members",
    [
        [("hard", "passwd", "/etc/passwd")],
        [("hard", "passwd", "../../../etc/passwd")],
        [("hard", "x", "not-there")],
        [("pipe", "fifo", "")],
    ],
    ids=lambda members: members[0][0] + " " + members[0][2],
)
def test_hard_links_and_devices_of_a_tar_are_refused(tmp_path: Path, members: list[Member]) -> None:
    with pytest.raises(FetchError):
        unpacked(make_tar(tmp_path / "m.tar", members))


def test_a_file_is_never_written_through_a_link(make: Callable[[list[Member]], Path]) -> None:
    archive = make([("sym", "x", "../../outside"), ("file", "x", "evil")])
    unpacked(archive)
    assert nothing_outside(archive)


def test_an_archive_that_unpacks_to_too_much_is_stopped(make: Callable[[list[Member]], Path]) -> None:
    with pytest.raises(FetchError, match="more than the allowed 1000 bytes"):
        unpacked(make([("file", "big", "0" * 100_000)]), Limits(max_bytes=1000))


def test_an_archive_with_too_many_entries_is_stopped(make: Callable[[list[Member]], Path]) -> None:
    with pytest.raises(FetchError, match="more than 10 entries"):
        unpacked(make([("file", str(number), "") for number in range(20)]), Limits(max_files=10))


def test_a_damaged_archive_is_named_wherever_it_is_cut(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(9500).hex()
    for name, maker in MAKERS.items():
        whole = maker(tmp_path / name, [("file", "1/model.bin", content)]).read_bytes()
        for share in (0.0, 0.1, 0.3, 0.5):  # a tar of this size is one third padding
            folder = tmp_path / f"{name}-{share}"
            folder.mkdir()
            cut = folder / name
            cut.write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(FetchError, match="damaged or no such archive"):
                unpacked(cut)


def test_a_page_of_html_that_is_called_an_archive_is_named(tmp_path: Path) -> None:
    for name in MAKERS:
        folder = tmp_path / f"in-{name}"
        folder.mkdir()
        (folder / name).write_text("<html>please log in</html>" * 50)
        with pytest.raises(FetchError, match="damaged or no such archive"):
            unpacked(folder / name)


def test_a_cancelled_fetch_stops_unpacking(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "m.tar", [("file", "1/x", "content")])
    progress = Progress()
    progress.cancelled.set()
    (tmp_path / "tree").mkdir()
    with pytest.raises(FetchError, match="cancelled"):
        unpack(archive, tmp_path / "tree", name="m.tar", limits=Limits(), progress=progress)


def test_which_files_are_archives() -> None:
    assert all(is_archive(name) for name in ("a.tar.gz", "a.TGZ", "a.tar", "a.zip"))
    assert not any(is_archive(name) for name in ("model.onnx", "model.pt", "tar.gz.bin", "zip"))
