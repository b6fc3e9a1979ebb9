"""Unpacking an archive that nobody here has made: every entry is checked before anything is written for it.

The standard library's own filter for this is not in every Python 3.11, and it does not cover zip files. Refused are
absolute paths, `..`, devices, links that leave the directory, and more bytes or files than allowed. Links are made
after all files, so that no file is ever written through one, and where they lead is checked once all are there.
"""

from __future__ import annotations

import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from nereus.sidecar.fetch.base import FetchError, Limits, Progress

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip", ".tar.bz2", ".tar.xz")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class _Entry:
    """One member of an archive, of either kind. `content` is None for a directory and for a link."""

    name: str
    size: int = 0
    executable: bool = False
    directory: bool = False
    symlink: str | None = None
    hardlink: str | None = None
    content: IO[bytes] | None = None


def is_archive(file_name: str) -> bool:
    """Whether a file name says that the file is an archive to unpack."""
    return file_name.lower().endswith(SUFFIXES)


def unpack(archive: Path, into: Path, *, name: str, limits: Limits, progress: Progress) -> None:
    """Unpacks below the empty directory `into`; blocking. `name` says what kind it is and is used in messages.

    Raises FetchError for an archive that is damaged, too large, or not to be trusted; OSError for a full disk.
    """
    entries = _zip_entries(archive) if name.lower().endswith(".zip") else _tar_entries(archive)
    try:
        _write(entries, into, name=name, limits=limits, progress=progress)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, NotImplementedError) as error:
        raise FetchError(f"{name} is damaged or no such archive: {_first_line(error)}") from None
    except RuntimeError as error:  # how zipfile speaks of a password
        raise FetchError(f"{name} cannot be unpacked: {error}") from None
    except OSError as error:
        if error.errno is None:  # how gzip and bz2 speak of a damaged file
            raise FetchError(f"{name} is damaged or no such archive: {error}") from None
        raise


def _first_line(error: Exception) -> str:
    """tarfile lists what each of its formats says, on lines of their own."""
    return str(error).partition("\n")[0].rstrip(":") or type(error).__name__


def _write(entries: Iterator[_Entry], into: Path, *, name: str, limits: Limits, progress: Progress) -> None:
    links: dict[Path, str] = {}
    written = count = 0
    for entry in entries:
        count += 1
        if count > limits.max_files:
            raise FetchError(f"{name} holds more than {limits.max_files} entries")
        target = into / _inside(entry.name, name)
        if target == into:
            continue
        if entry.directory:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise FetchError(f"{name}: {entry.name} is both a file and a directory")
        target.unlink(missing_ok=True)  # the same name twice: the later entry counts, as with tar
        links.pop(target, None)
        if entry.symlink is not None:
            links[target] = entry.symlink
        elif entry.hardlink is not None:
            source = into / _inside(entry.hardlink, name)
            if not source.is_file():
                raise FetchError(f"{name}: {entry.name} is a link to {entry.hardlink}, which is not in the archive")
            os.link(source, target)
        elif entry.content is not None:
            written += entry.size
            if written > limits.max_bytes:
                raise FetchError(f"{name} unpacks to more than the allowed {limits.max_bytes} bytes")
            _copy(entry, target, progress)
    _make_links(links, into, name)


def _copy(entry: _Entry, target: Path, progress: Progress) -> None:
    assert entry.content is not None
    remaining = entry.size
    with target.open("wb") as file:
        while remaining and (chunk := entry.content.read(min(_CHUNK, remaining))):
            file.write(chunk)
            remaining -= len(chunk)
            progress.advance(0)
    if remaining:
        raise EOFError(f"{entry.name} ends {remaining} bytes early")
    if entry.executable:
        target.chmod(target.stat().st_mode | 0o111)


def _inside(path: str, archive: str) -> PurePosixPath:
    parts = PurePosixPath(path.replace("\\", "/") if archive.lower().endswith(".zip") else path)
    if parts.is_absolute() or ".." in parts.parts or "\0" in path:
        raise FetchError(
            f"{archive} holds {path!r}, which would be written outside of the model's directory; not unpacked"
        )
    return parts


def _make_links(links: dict[Path, str], into: Path, name: str) -> None:
    for target, to in links.items():
        if target.is_dir() and not target.is_symlink():
            raise FetchError(f"{name}: {target.relative_to(into)} is both a link and a directory")
        if not target.parent.resolve().is_relative_to(into.resolve()):
            raise FetchError(f"{name}: {target.name} would be made outside of the model's directory; not unpacked")
        target.symlink_to(to)
    root = into.resolve()
    for target, to in links.items():
        try:
            leads_to = target.resolve(strict=True)
        except (OSError, RuntimeError):
            raise FetchError(f"{name}: {target.relative_to(into)} is a link to {to!r}, which is not there") from None
        if PurePosixPath(to).is_absolute() or not leads_to.is_relative_to(root):
            raise FetchError(
                f"{name}: {target.relative_to(into)} is a link to {to!r}, outside of the archive; not unpacked"
            )


def _tar_entries(archive: Path) -> Iterator[_Entry]:
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            if member.isdir():
                yield _Entry(member.name, directory=True)
            elif member.issym():
                yield _Entry(member.name, symlink=member.linkname)
            elif member.islnk():
                yield _Entry(member.name, hardlink=member.linkname)
            elif member.isreg():
                content = tar.extractfile(member)
                yield _Entry(member.name, size=member.size, executable=bool(member.mode & 0o111), content=content)
            else:
                raise FetchError(f"the archive holds {member.name!r}, a device or pipe; not unpacked")


def _zip_entries(archive: Path) -> Iterator[_Entry]:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            mode = member.external_attr >> 16
            if member.is_dir():
                yield _Entry(member.filename, directory=True)
            elif stat.S_ISLNK(mode):
                yield _Entry(member.filename, symlink=opened.read(member).decode(errors="replace"))
            else:
                with opened.open(member) as content:
                    executable = bool(mode & 0o111)
                    yield _Entry(member.filename, size=member.file_size, executable=executable, content=content)
