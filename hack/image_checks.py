"""What a security reviewer asks of a built image, as pure checks: its files and its configuration in, sentences out.

Three kinds of questions: what a break-in would use (programs that install, compile or fetch, files that raise rights,
code that the process itself could change), what must not be there at all (secrets), and whether the Python packages are
exactly the locked ones, none of them below a version with a published fix. It knows no advisories but those of FIXED
and asks nobody: a scanner with a database of its own says more, and finds what it needs in the image
(var/lib/dpkg/status, *.dist-info).
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hack import manifest_checks

EXCEPTIONS: Mapping[str, str] = {
    "shell": "Debian's base has one: Triton's python backend starts its processes with it, the others share the base",
}
"""Check -> why what it asks for is not done."""

FIXED: Mapping[str, tuple[str, str]] = {
    "aiohttp": ("3.13.3", "CVE-2025-69223: a compressed body fills the memory"),
    "certifi": ("2024.7.4", "CVE-2024-39689: a root that lost its trust"),
    "cryptography": ("44.0.1", "CVE-2024-12797: a handshake that is not authenticated (bundled OpenSSL)"),
    "filelock": ("3.20.1", "CVE-2025-68146: a lock file that is a link"),
    "h11": ("0.16.0", "CVE-2025-43859: request smuggling by lenient chunks"),
    "idna": ("3.7", "CVE-2024-3651: a name that takes quadratic time"),
    "protobuf": ("6.31.1", "CVE-2025-4565: recursion without a limit"),
    "pyasn1": ("0.6.2", "CVE-2026-23490: a malformed identifier fills the memory"),
    "pyyaml": ("5.4", "CVE-2020-14343: a document that runs code"),
    "requests": ("2.32.4", "CVE-2024-47081: .netrc credentials for the wrong host"),
    "tqdm": ("4.66.3", "CVE-2024-34062: arguments that run code"),
    "urllib3": ("2.6.3", "CVE-2026-21441: a compressed redirect fills the memory"),
}
"""Packages that take input from networks or files -> first version without a published weakness, and which."""

HIGHEST_SYSTEM_UID = 10_000
INSTALLERS = frozenset({"apt", "apt-get", "dpkg", "pip", "pip3", "pip3.11", "gem", "npm", "easy_install"})
COMPILERS = frozenset({"as", "c++", "cc", "g++", "gcc", "gdb", "go", "ld", "make", "perl", "strace"})
FETCHERS = frozenset({"curl", "ftp", "git", "nc", "ncat", "rsync", "scp", "socat", "ssh", "telnet", "wget"})
RAISERS = frozenset({"doas", "mount", "nsenter", "passwd", "su", "sudo", "umount", "unshare"})
SHELLS = frozenset({"bash", "dash", "sh", "zsh"})
PROGRAMS = {
    "installer": INSTALLERS,
    "compiler": COMPILERS,
    "fetcher": FETCHERS,
    "raiser": RAISERS,
    "shell": SHELLS,
}
SECRETS = re.compile(r"(^|/)(id_[a-z0-9]+|\.netrc|\.pypirc|pip\.conf|\.git-credentials|\.docker/config\.json)$|\.key$")

Finding = tuple[str, str]
"""The check and what it found."""


@dataclass(frozen=True)
class File:
    """A file, directory or link in an image."""

    mode: int
    uid: int
    is_directory: bool = False
    is_link: bool = False


@dataclass(frozen=True)
class Image:
    """What an image holds by path without the leading slash, later layers over earlier ones, and how it runs."""

    files: Mapping[str, File]
    config: Mapping[str, Any]


def read(archive: Path) -> Image:
    """An image out of an archive of OCI's or of Docker's layout."""
    with tarfile.open(archive) as tar:

        def blob(name: str) -> IO[bytes]:
            found = tar.extractfile(name)
            assert found is not None, f"{archive}: {name} is no file"
            return found

        def described(digest: str) -> Any:
            return json.load(blob(f"blobs/sha256/{digest.removeprefix('sha256:')}"))

        if "manifest.json" in tar.getnames():
            manifest = json.load(blob("manifest.json"))[0]
            config, layers = json.load(blob(manifest["Config"])), manifest["Layers"]
        else:
            manifest = described(json.load(blob("index.json"))["manifests"][0]["digest"])
            config = described(manifest["config"]["digest"])
            layers = [f"blobs/sha256/{layer['digest'].removeprefix('sha256:')}" for layer in manifest["layers"]]
        files: dict[str, File] = {}
        for layer in layers:
            with tarfile.open(fileobj=blob(layer)) as content:
                _lay(files, content)
    return Image(files, config.get("config") or {})


def _lay(files: dict[str, File], layer: tarfile.TarFile) -> None:
    for entry in layer:
        path = entry.name.removeprefix("./").rstrip("/")
        folder, _, name = path.rpartition("/")
        if name.startswith(".wh."):
            gone = f"{folder}/{name.removeprefix('.wh.')}".lstrip("/")
            for each in [each for each in files if each == gone or each.startswith(f"{gone}/")]:
                del files[each]
        else:
            files[path] = File(entry.mode, entry.uid, entry.isdir(), entry.issym())


def found(image: Image, locked: Mapping[str, str], *, below: tuple[str, ...] = ("",)) -> Iterator[Finding]:
    """Everything about an image. `locked` are its Python packages and their versions; `below` narrows the questions
    about files to some directories, where the base is not ours."""
    user = str(image.config.get("User", "")).partition(":")[0]
    if not user.isdigit() or int(user) <= HIGHEST_SYSTEM_UID:
        yield "user", f"runs as {user or 'root'}"
    for variable in image.config.get("Env") or ():
        if re.search(r"(PASSWORD|SECRET|TOKEN|CREDENTIAL)[A-Z_]*=", variable):
            yield "secret", f"variable {variable.partition('=')[0]}"
    for path, file in image.files.items():
        if path.startswith(below):
            yield from _file(path, file, int(user) if user.isdigit() else 0)
    yield from _packages(image, locked)


def _file(path: str, file: File, user: int) -> Iterator[Finding]:
    if file.is_link:
        return
    name, folder = path.rpartition("/")[2], path.rpartition("/")[0].rpartition("/")[2]
    if file.mode & 0o6000 and not file.is_directory:
        yield "setuid", f"{path} runs with another's rights"
    if file.mode & 0o002 and not (file.is_directory and file.mode & 0o1000):
        yield "world-writable", f"{path} can be written by everybody"
    if file.uid == user and not file.is_directory:
        yield "own-code", f"{path} belongs to the user that the image runs as"
    if SECRETS.search(path):
        yield "secret", f"{path} may hold one"
    if folder in ("bin", "sbin") and file.mode & 0o111:
        for kind, programs in PROGRAMS.items():
            if name in programs:
                yield kind, f"/{path}"


def _packages(image: Image, locked: Mapping[str, str]) -> Iterator[Finding]:
    installed = {}
    for path in image.files:
        name, _, rest = path.rpartition("/")[2].partition("-")
        if rest.endswith(".dist-info") and image.files[path].is_directory:
            installed[normal(name)] = rest.removesuffix(".dist-info")
    for name in sorted(installed.keys() | locked.keys()):
        if installed.get(name) != locked.get(name):
            yield "locked", f"{name} is {installed.get(name, 'absent')}, locked is {locked.get(name, 'none')}"
    for name, version in installed.items():
        yield from weak(name, version)


def weak(name: str, version: str) -> Iterator[Finding]:
    """Whether a version is older than the first without a published weakness."""
    fixed, which = FIXED.get(name, ("0", ""))
    if _numbers(version) < _numbers(fixed):
        yield "weak", f"{name} {version}: {which}, fixed in {fixed}"


def locked(requirements: str) -> dict[str, str]:
    """Packages and versions of a lock file."""
    return {normal(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", requirements, re.MULTILINE)}


def unhashed(requirements: str) -> Iterator[Finding]:
    """Packages of a lock file that pip would take without comparing them."""
    for entry in re.sub(r"\\\n", " ", requirements).splitlines():
        if "==" in entry and not entry.lstrip().startswith("#") and "--hash=sha256:" not in entry:
            yield "hash", f"{entry.split()[0]} has no hash"


def normal(name: str) -> str:
    """As package indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def unexplained(findings: Iterable[Finding], exceptions: Mapping[str, str] = EXCEPTIONS) -> list[str]:
    """What is found and not excepted, and which exceptions nothing needs."""
    return list(manifest_checks.unexplained(findings, exceptions, kept_in="hack/image_checks.py"))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))
