"""The two engines that build an image: Docker where it answers, buildah everywhere else.

The Dockerfiles know nothing of this machine: what a build needs to reach the network from here (a CA bundle, pip's
settings) is mounted while it runs and is part of no image.
"""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from localcluster import imagebase
from localcluster.packages import ensure_tools
from localcluster.report import Progress, Refusal

PROGRESS_SECONDS = 5
BOILERPLATE = ("subprocess exited with", "error building at STEP", "Error: building at STEP", "exit status")
PIP_VARIABLES: Mapping[str, str] = {
    "index-url": "PIP_INDEX_URL",
    "extra-index-url": "PIP_EXTRA_INDEX_URL",
    "trusted-host": "PIP_TRUSTED_HOST",
    "cert": "PIP_CERT",
    "timeout": "PIP_DEFAULT_TIMEOUT",
}
DEFAULT_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


class ImageError(Refusal):
    """One line for a person: which image or tool, what happened, what helps."""


def say(message: str) -> None:
    print(f"images: {message}", file=sys.stderr, flush=True)


def run_logged(command: Sequence[str], *, label: str, log: Path) -> None:
    """Runs a tool with its output in `log`, says every few seconds where it stands, and ends it when we end."""
    start = spoken = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                time.sleep(0.1)
                if time.monotonic() - spoken >= PROGRESS_SECONDS:
                    spoken = time.monotonic()
                    say(f"{label}: {spoken - start:.0f} s: {' '.join(tail(log, 1))[:100]}")
        finally:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise ImageError(f"{label} failed (exit {process.returncode}; log: {log}): " + " | ".join(tail(log, 4)))


def tail(log: Path, count: int) -> list[str]:
    """The last lines that say something: buildah repeats the whole instruction and each exit status after them."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    return [line[:200] for line in lines if line and not line.startswith(BOILERPLATE)][-count:]


def new_log(directory: Path, name: str) -> Path:
    log = directory / "logs" / f"{name}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_bytes(b"")
    return log


def pip_settings(files: Iterable[Path], environment: Mapping[str, str]) -> str:
    """How pip reaches its index from this machine, as one pip.conf; empty when nothing is special here."""
    merged: dict[str, str] = {}
    for path in files:
        parser = configparser.RawConfigParser()
        parser.read(path)
        for section in ("global", "install"):
            merged |= dict(parser.items(section)) if parser.has_section(section) else {}
    merged |= {key: environment[name] for key, name in PIP_VARIABLES.items() if environment.get(name)}
    wanted = [f"{key} = {merged[key]}\n" for key in PIP_VARIABLES if key in merged]
    return "[global]\n" + "".join(wanted) if wanted else ""


class Docker:
    """Builds with the Docker engine of this machine, on the base that the Dockerfiles name."""

    base_key = "docker"

    @staticmethod
    def answers() -> bool:
        if shutil.which("docker") is None:
            return False
        try:
            command = ["docker", "info", "--format", "{{.ServerVersion}}"]
            probe = subprocess.run(command, check=False, capture_output=True, timeout=10)
        except subprocess.TimeoutExpired:
            return False
        return probe.returncode == 0 and bool(probe.stdout.strip())

    def build(
        self, name: str, *, context: Path, dockerfile: Path, reference: str, version: str, target: Path, log: Path
    ) -> None:
        arguments = ["--file", str(context / dockerfile), "--build-arg", f"VERSION={version}"]
        run_logged(["docker", "build", *arguments, "--tag", reference, str(context)], label=name, log=log)
        run_logged(["docker", "save", "--output", str(target), reference], label=f"{name}: saving", log=log)


class Buildah:
    """Builds without any daemon. Layers lie in the cache too, so nothing of the machine's own storage is touched.

    Everything runs in mount and process namespaces of its own, and ends with us: whatever kills a build, no mount
    and no process of it stays behind.
    """

    ISOLATED = (
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
    )

    def __init__(self, directory: Path) -> None:
        if os.geteuid() != 0:
            raise ImageError("building images without a Docker engine needs root (debootstrap and chroot do)")
        ensure_tools("buildah", "debootstrap", progress=Progress())
        self.directory = directory
        self.base_key = imagebase.base_key()

    def build(
        self, name: str, *, context: Path, dockerfile: Path, reference: str, version: str, target: Path, log: Path
    ) -> None:
        base, runtime = self.bases()
        with tempfile.TemporaryDirectory(dir=self.directory, prefix=".tmp-run-") as scratch:
            arguments = ["--build-arg", f"BASE={base}", "--build-arg", f"RUNTIME={runtime}", "--layers"]
            arguments += ["--build-arg", f"VERSION={version}", "--file", str(context / dockerfile)]
            arguments += ["--network=host", "--isolation=chroot", "--pull-never", *self.mounts(Path(scratch))]
            self.run("build", *arguments, "--tag", reference, str(context), label=name, log=log)
            self.run("push", reference, f"oci-archive:{target}:{reference}", label=f"{name}: saving", log=log)

    def run(self, verb: str, *arguments: str, label: str, log: Path) -> None:
        with tempfile.TemporaryDirectory(dir=self.directory, prefix=".tmp-run-") as state:
            storage = ("--root", str(self.directory / "storage"), "--runroot", state)
            run_logged([*self.ISOLATED, "buildah", *storage, verb, *arguments], label=label, log=log)

    def mounts(self, scratch: Path) -> list[str]:
        """What a build needs of this machine to reach the network, mounted read-only and only where it exists."""
        bundle = Path(os.environ.get("SSL_CERT_FILE") or DEFAULT_CA_BUNDLE)
        home = Path.home()
        files = [Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
        settings = scratch / "pip.conf"
        settings.write_text(pip_settings([file for file in files if file.exists()], os.environ))
        found = [f"{bundle}:{bundle}:ro"] if bundle.exists() else []
        found += [f"{settings}:/etc/pip.conf:ro"] if settings.stat().st_size else []
        return [word for mount in found for word in ("--volume", mount)]

    def bases(self) -> tuple[str, str]:
        """The references of the base for building (with pip) and of the base for running (Python and a shell)."""
        names = (f"localhost/nereus-base-build:{self.base_key}", f"localhost/nereus-base:{self.base_key}")
        mark = self.directory / "storage" / f"base-{self.base_key}.complete"
        if not mark.exists():
            with tempfile.TemporaryDirectory(dir=self.directory, prefix=".tmp-base-") as scratch:
                self.make_bases(Path(scratch) / "root", build=names[0], runtime=names[1])
            mark.touch()
        return names

    def make_bases(self, root: Path, *, build: str, runtime: str) -> None:
        log = new_log(self.directory, "base")
        say(f"base: debootstrap {imagebase.SUITE} (once; about a minute)")
        run_logged([*self.ISOLATED, *imagebase.debootstrap(root)], label="base", log=log)
        imagebase.clean(root)
        self.commit_directory(root, reference=build, log=log)
        imagebase.trim(root)
        self.commit_directory(root, reference=runtime, log=log)

    def commit_directory(self, root: Path, *, reference: str, log: Path) -> None:
        dockerfile = root.parent / "Dockerfile"
        dockerfile.write_text("FROM scratch\nADD root.tar /\nENV PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8\n")
        tar = ["tar", "--numeric-owner", "-C", str(root), "-cf", str(root.parent / "root.tar"), "."]
        run_logged(tar, label="base: packing", log=log)
        self.run("build", "--tag", reference, "--file", str(dockerfile), str(root.parent), label="base", log=log)
