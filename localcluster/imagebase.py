"""The Debian base of the images where no Docker engine is: a root file system that debootstrap makes, and what of it
an image needs to run.

Files are only ever removed by name, inside that root: no package script runs, for one that ran would act on this
machine as root. Deliberately knows nothing of images and engines.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from localcluster.report import Refusal

SUITE = "bookworm"
BASE_RECIPE = "2"  # raised when the way a base is made changes, so that one made in the old way is not used again
BUILD_PACKAGES = ("ca-certificates", "netbase", "python3", "python3-pip", "libpython3.11")
# What an image needs to run: a C library, a shell, core utilities, Python, time zones and trust anchors.
# bash too: Triton's python backend starts its processes with it.
RUNTIME_PACKAGES = frozenset({
    "base-files", "base-passwd", "bash", "ca-certificates", "coreutils", "dash", "gcc-12-base", "libacl1", "libattr1",
    "libbz2-1.0", "libc-bin", "libc6", "libcom-err2", "libcrypt1", "libdb5.3", "libexpat1", "libffi8", "libgcc-s1",
    "libgmp10", "libgssapi-krb5-2", "libk5crypto3", "libkeyutils1", "libkrb5-3", "libkrb5support0", "liblzma5",
    "libncursesw6", "libnsl2", "libpcre2-8-0", "libpython3-stdlib", "libpython3.11-minimal", "libpython3.11-stdlib",
    "libreadline8", "libselinux1", "libsqlite3-0", "libssl3", "libstdc++6", "libtinfo6", "libtirpc-common",
    "libtirpc3", "libuuid1", "media-types", "netbase", "openssl", "python3", "python3-minimal", "python3.11",
    "python3.11-minimal", "readline-common", "tzdata", "zlib1g",
})  # fmt: skip
UNUSED_PATHS = (
    "var/cache", "var/lib/apt", "var/log", "usr/share/locale", "usr/share/man", "usr/share/info", "usr/share/lintian",
    "usr/lib/*/gconv", "usr/lib/python3/dist-packages", "usr/lib/python3.11/pydoc_data", "var/lib/dpkg/info",
)  # fmt: skip
MACHINE_FILES = ("etc/hostname", "etc/hosts", "etc/resolv.conf")  # debootstrap copies them; runtimes mount their own


def base_key() -> str:
    """Names the base that debootstrap makes here."""
    parts = (
        BASE_RECIPE,
        SUITE,
        platform.machine(),
        *BUILD_PACKAGES,
        *sorted(RUNTIME_PACKAGES),
        *UNUSED_PATHS,
        *MACHINE_FILES,
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def debian_mirror(texts: Iterable[str]) -> str | None:
    """The first Debian archive among APT source files of either format; None leaves debootstrap its own default."""
    for text in texts:
        for line in text.splitlines():
            deb822 = re.match(r"\s*URIs:\s*(\S+)", line)
            one_line = re.match(r"\s*deb\s+(?:\[[^]]*\]\s+)?(\S+)\s", line)
            found = deb822 or one_line
            if found and re.match(r"https?://.*/debian/?$", found[1]):
                return found[1]
    return None


def machine_mirror() -> str | None:
    """The Debian archive that this machine itself uses."""
    sources = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    return debian_mirror(path.read_text(errors="replace") for path in sources if path.is_file())


def debootstrap(root: Path) -> list[str]:
    """The command that makes the root file system of the base for building."""
    mirror = machine_mirror()
    packages = f"--include={','.join(BUILD_PACKAGES)}"
    return ["debootstrap", "--variant=minbase", packages, SUITE, str(root), *([mirror] if mirror else [])]


def clean(root: Path) -> None:
    """Takes away what debootstrap left of this machine and of the installation."""
    for directory in ("dev", "var/cache/apt", "var/lib/apt/lists"):
        clear(root / directory)
    for file in MACHINE_FILES:
        (root / file).unlink(missing_ok=True)


def trim(root: Path) -> None:
    """Takes from a root file system what only installing needs; the package list stays for vulnerability scanners.

    Files are removed by name and no package script runs: one that ran would act on this machine as root.
    """
    database = root / "var/lib/dpkg"
    packages = [stanza for stanza in (database / "status").read_text().split("\n\n") if stanza.strip()]
    names = {stanza: stanza.split("\n", 1)[0].removeprefix("Package: ") for stanza in packages}
    kept: set[str] = set()
    unwanted: set[str] = set()
    for listing in sorted((database / "info").glob("*.list")):
        owned = set(listing.read_text().splitlines())
        if listing.name.removesuffix(".list").split(":")[0] in RUNTIME_PACKAGES:
            kept |= owned
        else:
            unwanted |= owned
    for name in sorted(unwanted - kept, reverse=True):  # children before their directories
        path = inside(root, name)
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        else:
            path.unlink(missing_ok=True)
    wanted = [stanza for stanza in packages if names[stanza] in RUNTIME_PACKAGES]
    (database / "status").write_text("\n\n".join(wanted) + "\n")
    for pattern in UNUSED_PATHS:
        for path in root.glob(pattern):
            clear(inside(root, str(path.relative_to(root))))
    for path in (root / "usr/share/doc").rglob("*"):
        if path.is_file() and not path.is_symlink() and path.name != "copyright":
            path.unlink()


def inside(root: Path, name: str) -> Path:
    """The path of `name` below `root`. Raises Refusal where a link on the way leads out of it, to this machine."""
    path = root / name.lstrip("/")
    if not path.parent.resolve().is_relative_to(root.resolve()):
        raise Refusal(f"base: {name} leads out of {root}, to {path.parent.resolve()}: nothing there was touched")
    return path


def clear(directory: Path) -> None:
    """Empties a directory; a link to one is left alone, for it may lead elsewhere."""
    for path in () if directory.is_symlink() else tuple(directory.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
