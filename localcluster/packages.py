"""Debian packages that the cluster needs, installed when their tool is missing and without starting a service.

A tool that is already there is taken as it is, whoever installed it. Nothing is ever removed or upgraded.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from localcluster.report import Progress, Refusal

# Where each tool is found: a name on PATH or an absolute path, and the package that brings it.
PACKAGES = {
    "ip": "iproute2",
    "mount": "mount",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setsid": "util-linux",
    "setpriv": "util-linux",
    "openssl": "openssl",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "/usr/lib/cni/host-local": "containernetworking-plugins",
    "/usr/lib/cni/portmap": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "faketime": "faketime",  # for a test that moves the clock of one process
}
CONTROL_TOOLS = ("ip", "mount", "nsenter", "unshare", "setsid", "setpriv", "openssl")
NODE_TOOLS = (
    *CONTROL_TOOLS,
    "containerd",
    "ctr",
    "runc",
    "/usr/lib/cni/bridge",
    "/usr/lib/cni/host-local",
    "/usr/lib/cni/portmap",
    "iptables",
    "conntrack",
    "prometheus",
    "promtool",
)
# Units of these packages would otherwise start with the machine from the next boot on.
SERVICES = {
    "containerd": ("containerd",),
    "prometheus": ("prometheus",),
    "prometheus-alertmanager": ("prometheus-alertmanager",),
}
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LOCK = Path("/run/nereus-packages.lock")
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# Written by nereus localcluster while it installs packages: no service starts.\nexit 101\n"


def find_tool(tool: str) -> str | None:
    """The path of a tool, also when the caller's PATH lacks the system directories."""
    if tool.startswith("/"):
        return tool if os.access(tool, os.X_OK) else None
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")


def missing_packages(tools: Iterable[str]) -> list[str]:
    """The packages of the tools that are not there, each once."""
    return sorted({PACKAGES[tool] for tool in tools if find_tool(tool) is None})


def ensure_tools(*tools: str, progress: Progress) -> None:
    """Install the packages of the tools that are missing; one caller at a time, for apt-get waits for no other."""
    if not missing_packages(tools):
        return
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # who may not make the lock may install nothing either, and is told so
            fcntl.flock(stack.enter_context(LOCK.open("w")), fcntl.LOCK_EX)
        if packages := missing_packages(tools):
            _install(*packages, progress=progress)
    if still := [tool for tool in tools if find_tool(tool) is None]:
        raise Refusal(f"{', '.join(still)} still missing after apt-get install: install by hand")


def _install(*packages: str, progress: Progress) -> None:
    if os.geteuid() != 0:
        raise Refusal(f"missing packages {' '.join(packages)}: run as root, or install them with apt-get install")
    if find_tool("apt-get") is None:
        raise Refusal(f"this machine has no apt-get: install by its own means {' '.join(packages)}")
    progress.say(f"installing Debian packages: {' '.join(packages)}")
    with _no_service_starts():
        _apt("update", progress=progress)
        _apt("install", "-y", "--no-install-recommends", *packages, progress=progress)
    _keep_services_off(packages)


def _apt(*arguments: str, progress: Progress) -> None:
    command = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Options::=--force-confold", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PATH": SYSTEM_PATH}
    output: list[str] = []
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line.rstrip())
            progress.tick(f"apt-get {arguments[0]}: {line.strip()[:100]}")
    if process.returncode != 0:
        errors = [line for line in output if line.startswith("E:")] or output[-1:]
        raise Refusal(f"apt-get {arguments[0]} failed: {' '.join(errors)[:400]}")


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Forbid service starts for the duration. A policy that the machine already has is its owner's word and stays."""
    ours = not POLICY.exists() or POLICY.read_text() == POLICY_TEXT
    if ours:
        POLICY.write_text(POLICY_TEXT)
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)


def _keep_services_off(packages: Iterable[str]) -> None:
    if not Path("/run/systemd/system").is_dir():
        return
    for package in packages:
        for unit in SERVICES.get(package, ()):
            subprocess.run(["systemctl", "disable", "--quiet", unit], check=False, stdin=subprocess.DEVNULL)
