"""Binaries from Go modules: built once per set of versions, found again afterwards.

Each directory below `go/` is one module whose `tool` lines name what to build, or a small program of our own. The
result lies in the cache under a key made of everything that decides it. A build goes to a temporary directory that is
renamed when complete, so a killed build is simply built again (with Go's own cache it continues where it was).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from localcluster.config import cache_dir
from localcluster.packages import find_tool
from localcluster.report import Progress, Refusal

GO_DIR = Path(__file__).parent / "go"
# Programs from Debian that belong in the same directory as those built here.
DEBIAN_TOOLS = ("promtool", "prometheus", "containerd", "ctr", "runc")


@dataclass(frozen=True)
class Module:
    """One directory below `go/`."""

    name: str
    what: str
    # `tool` stands for everything that the go.mod lists as a tool.
    packages: tuple[str, ...] = ("tool",)
    renames: tuple[tuple[str, str], ...] = ()
    # Directories of required modules whose YAML files go beside the binaries, as one file: (module, directory, file).
    extras: tuple[tuple[str, str, str], ...] = ()
    # Build tags; not in the text of a module, so that what has none keeps its key.
    tags: tuple[str, ...] = field(default=(), repr=False)

    @property
    def dir(self) -> Path:
        """Where its go.mod lies."""
        return GO_DIR / self.name


KUBERNETES = Module("kubernetes", "Kubernetes (about 5 minutes on 2 cores)")
ETCD = Module("etcd", "etcd", renames=(("server", "etcd"),))
TOOLS = Module(
    "tools",
    "helm, kwok, kubeconform, metrics-server and CoreDNS (about 3 minutes on 2 cores)",
    packages=("tool", "./coredns"),
    extras=(
        ("sigs.k8s.io/kwok", "kustomize/stage/node/fast", "kwok-stages.yaml"),
        ("sigs.k8s.io/kwok", "kustomize/stage/node/heartbeat-with-lease", "kwok-stages.yaml"),
        ("sigs.k8s.io/kwok", "kustomize/stage/pod/fast", "kwok-stages.yaml"),
    ),
)
PAUSE = Module("pause", "pause", packages=(".",))
MODULES = (PAUSE, KUBERNETES, ETCD, TOOLS)
"""What a cluster needs. Others are built only for those who ask for them (`ensure_module`)."""
PROMETHEUS_OPERATOR = Module(
    "prometheus-operator",
    "prometheus-operator (about 3 minutes of processor time)",
    renames=(("operator", "prometheus-operator"),),
    extras=(
        (
            "github.com/prometheus-operator/prometheus-operator",
            "example/prometheus-operator-crd",
            "prometheus-operator-crds.yaml",
        ),
    ),
)
PROMETHEUS = Module(
    "prometheus",
    "Prometheus with Kubernetes discovery (about 7 minutes of processor time)",
    # Without the client libraries of some twenty clouds, whose discovery nobody uses here.
    tags=("remove_all_sd", "enable_kubernetes_sd"),
)
KUBE_SCORE = Module("kube-score", "kube-score")
KEDA = Module(
    "keda",
    "KEDA (about 5 minutes of processor time)",
    renames=(("operator", "keda-operator"), ("adapter", "keda-adapter")),
    extras=(("github.com/kedacore/keda/v2", "config/crd/bases", "keda-crds.yaml"),),
)
S3 = Module("s3", "versitygw, an S3 server for tests (about a minute on 2 cores)")


def required_version(module: Module, path: str) -> str:
    """The version, without its `v`, that a go.mod requires of a module path."""
    return version_in((module.dir / "go.mod").read_text(), path)


def version_in(go_mod: str, path: str) -> str:
    """The version, without its `v`, of a module path in the text of a go.mod."""
    found = re.search(rf"^(?:require)?\s*{re.escape(path)} v(\S+)", go_mod, re.MULTILINE)
    if found is None:
        raise LookupError(f"{path} is not required")
    return found.group(1)


def linker_flags(module: Module) -> str:
    """What is stamped into the binaries; without the version some clients refuse the API server."""
    flags = "-s -w"
    if module is KUBERNETES:
        version = required_version(module, "k8s.io/kubernetes")
        major, minor = version.split(".")[:2]
        stamp = "k8s.io/component-base/version"
        flags += f" -X {stamp}.gitVersion=v{version} -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}"
    return flags


def module_key(module: Module, *, go_version: str) -> str:
    """A key of everything that decides the binaries of a module."""
    digest = hashlib.sha256(f"{go_version}\n{linker_flags(module)}\n{module}\n".encode())
    digest.update(",".join(module.tags).encode())
    for path in sorted(path for path in module.dir.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(module.dir)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def go_version() -> str:
    """The version of the Go that is on PATH; Refusal when there is none or it is too old for our modules."""
    go = find_tool("go") or find_tool("/usr/local/go/bin/go")
    needed = max(_go_line(module) for module in MODULES)
    remedy = f"install Go {'.'.join(map(str, needed))} or newer and put it on PATH"
    if go is None:
        raise Refusal(f"no go command found: {remedy}")
    found = subprocess.run(
        [go, "env", "GOVERSION"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GOTOOLCHAIN": "local"},
    ).stdout.strip()
    numbers = parse_go_version(found)
    if numbers is None:
        raise Refusal(f"{go} does not run: {remedy}")
    if numbers < needed:
        raise Refusal(f"{go} is {found}, too old: {remedy}")
    return found


def parse_go_version(text: str) -> tuple[int, ...] | None:
    """`go1.26.8` as (1, 26, 8)."""
    found = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in found.groups()) if found else None


def _go_line(module: Module) -> tuple[int, ...]:
    found = re.search(r"^go (\S+)$", (module.dir / "go.mod").read_text(), re.MULTILINE)
    return parse_go_version(f"go{found.group(1)}" if found else "") or (0,)


def built_dir(module: Module, *, go_version: str) -> Path:
    """Where the binaries of a module lie once they are built."""
    return cache_dir() / "built" / f"{module.name}-{module_key(module, go_version=go_version)}"


def bin_dir(*, go_version: str) -> Path:
    """One directory with everything, for PATH. Its name changes when any version changes."""
    keys = "".join(module_key(module, go_version=go_version) for module in MODULES)
    return cache_dir() / "bin" / hashlib.sha256(keys.encode()).hexdigest()[:12]


def ensure_binaries(*, progress: Progress) -> Path:
    """Build what is missing and return the directory for PATH."""
    version = go_version()
    missing = [module for module in MODULES if not built_dir(module, go_version=version).is_dir()]
    target = bin_dir(go_version=version)
    sources = [built_dir(module, go_version=version) for module in MODULES]
    if not missing and all(_is_linked(target, path) for path in _binaries(sources)):
        return target  # without waiting for whoever builds something else
    with _build_lock(progress):
        for number, module in enumerate(missing, start=1):
            if not built_dir(module, go_version=version).is_dir():
                _build(module, version=version, count=f"{number}/{len(missing)}", progress=progress)
        _link(target, sources)
    return target


def ensure_module(module: Module, *, progress: Progress) -> Path:
    """Build one module if it is missing; the directory of its binaries."""
    version = go_version()
    target = built_dir(module, go_version=version)
    if not target.is_dir():
        with _build_lock(progress):
            if not target.is_dir():
                _build(module, version=version, count="1/1", progress=progress)
    return target


def _link(target: Path, sources: Sequence[Path]) -> None:
    """Make `target` hold a link to every binary there is."""
    target.mkdir(parents=True, exist_ok=True)
    for path in _binaries(sources):
        if not _is_linked(target, path):
            link = target / path.name
            temporary = target / f".{path.name}.new"
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(path)
            temporary.rename(link)


def _binaries(sources: Sequence[Path]) -> list[Path]:
    found = [path for source in sources if source.is_dir() for path in source.iterdir()]
    return found + [Path(tool) for name in DEBIAN_TOOLS if (tool := find_tool(name))]


def _is_linked(target: Path, path: Path) -> bool:
    link = target / path.name
    return link.is_symlink() and link.readlink() == path


@contextmanager
def _build_lock(progress: Progress) -> Iterator[None]:
    """One build at a time on this cache; the lock ends with the process that holds it, however that ends."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    descriptor = os.open(cache_dir(), os.O_RDONLY)
    try:
        waiter = threading.Event()
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                progress.tick("another localcluster builds binaries: waiting for it")
                waiter.wait(0.5)
        yield
    finally:
        os.close(descriptor)


def _build(module: Module, *, version: str, count: str, progress: Progress) -> None:
    final = built_dir(module, go_version=version)
    final.parent.mkdir(parents=True, exist_ok=True)
    for leftover in final.parent.glob(f".{module.name}-*"):
        shutil.rmtree(leftover)
    temporary = final.parent / f".{module.name}-building"
    temporary.mkdir()
    progress.say(f"building {module.what} ({count})")
    started = progress.elapsed_seconds
    flags = ["-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", linker_flags(module)]
    flags += ["-tags", ",".join(module.tags)] if module.tags else []
    command = ["go", "build", "-v", *flags, "-o", f"{temporary}/", *module.packages]
    _run_go(command, module=module, progress=progress)
    for old, new in module.renames:
        if (temporary / old).exists():
            (temporary / old).rename(temporary / new)
    for path, directory, file in module.extras:
        _add_extra(module, path=path, directory=directory, target=temporary / file)
    temporary.rename(final)
    progress.say(f"built {module.name} in {progress.elapsed_seconds - started:.0f} s")


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "",
        "GOWORK": "off",
        "GOTOOLCHAIN": "local",
        "GOOS": "linux",
        "PATH": f"{os.environ.get('PATH', '')}:/usr/local/go/bin",
    }


def _run_go(command: Sequence[str], *, module: Module, progress: Progress) -> None:
    """Run go, telling from time to time which package it is at; it ends when this process ends."""
    log = cache_dir() / "log" / f"build-{module.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    last_lines: deque[str] = deque(maxlen=12)
    with (
        log.open("w") as log_file,
        subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command],
            cwd=module.dir,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        reader = threading.Thread(target=_copy, args=(process.stdout, log_file, last_lines), daemon=True)
        reader.start()
        while reader.is_alive():
            reader.join(0.5)
            progress.tick(f"building {module.name}: {last_lines[-1][:100] if last_lines else 'reading its modules'}")
    if process.returncode != 0:
        for line in last_lines:
            progress.say(line)
        raise Refusal(f"go build of {module.name} failed: {last_lines[-1] if last_lines else ''} (log: {log})")


def _copy(source: Iterable[str], log_file: TextIO, last_lines: deque[str]) -> None:
    for line in source:
        log_file.write(line)
        log_file.flush()
        if line.strip():
            last_lines.append(line.strip())


def _add_extra(module: Module, *, path: str, directory: str, target: Path) -> None:
    """Append the YAML files of a directory in a required module to one file of many documents."""
    found = subprocess.run(
        ["go", "list", "-m", "-f", "{{.Dir}}", path],
        cwd=module.dir,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode != 0:
        raise Refusal(f"cannot find the files of {path}: {found.stderr.strip()[:300]}")
    with target.open("a") as file:
        for source in sorted(Path(found.stdout.strip(), directory).glob("*.yaml")):
            if source.name != "kustomization.yaml":
                file.write(f"---\n{source.read_text()}\n")
