"""The command line: what can be asked of the local cluster. Parsing and printing only."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from localcluster import build, cluster, config, faults, leftovers, packages, processes, sandbox
from localcluster.components import components
from localcluster.config import DEFAULT_NAME, Cluster, Options, Profile, find_cluster
from localcluster.containers import load_image
from localcluster.report import Progress, Refusal


def main(argv: Sequence[str]) -> int:
    """Run one command; 0 when it did what was asked, 1 when it could not and said why in one line."""
    if argv[:1] == ["images"]:
        return _guarded(lambda: _images(list(argv[1:])))
    arguments = _parser().parse_args(argv)
    return _guarded(lambda: int(arguments.run(arguments) or 0))


def _guarded(command: Callable[[], int]) -> int:
    try:
        return command()
    except Refusal as refusal:
        print(f"ERROR: {refusal}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our output, such as `head`, has enough; nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("interrupted: the same command continues where it was, `down` removes what is there", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m localcluster", description="A real one-node Kubernetes on this machine, without Docker."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    def add_named(name: str, run: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        command = add(name, run, text)
        command.add_argument("--name", default=DEFAULT_NAME, help="which cluster (default: %(default)s)")
        return command

    up = add_named("up", _up, "start, complete or change a cluster; prints the path of its kubeconfig")
    up.add_argument(
        "--profile",
        type=Profile,
        choices=list(Profile),
        default=Profile.NODE,
        help="a whole node, or the control plane alone",
    )
    up.add_argument(
        "--kwok-nodes", type=int, default=0, metavar="N", help="nodes without machines, for many pods (default: 0)"
    )
    up.add_argument(
        "--hpa-sync", default="5s", metavar="DURATION", help="how often autoscalers are evaluated (default: 5s)"
    )
    up.add_argument(
        "--default-client-limits",
        action="store_true",
        help="keep Kubernetes' own request limits of controllers and scheduler, to measure their real pace",
    )
    down = add_named("down", _down, "end a cluster and remove everything of it")
    down.add_argument("--all", action="store_true", help="every cluster on this machine, whoever started it")
    add_named("status", _status, "what runs, and where it answers")
    add_named("kubeconfig", lambda a: print(find_cluster(a.name).kubeconfig), "print the path of the kubeconfig")
    add_named("env", _env, "print export lines for a shell")
    add("build", _build, "build the binaries only, and print their directory")
    add("bin", _bin, "print the directory with kubectl, helm, kwok, kubeconform and promtool")
    load = add_named("load-image", _load_image, "import an OCI archive into the node")
    load.add_argument("archive", type=Path)
    add("images", lambda _: 0, "build the project's own images (see `images --help`)")
    run = add_named("exec", _exec, "run a command inside the cluster's namespaces")
    run.add_argument("command", nargs="+")
    for name, action, text in (
        ("kill", _kill, "end one component, as a crash would"),
        ("start", _start, "start it again"),
    ):
        add_named(name, action, text).add_argument("component")
    return parser


def _programs() -> Path:
    programs = build.bin_dir(go_version=build.go_version())
    if not programs.is_dir():
        raise Refusal("nothing is built yet: `python3 -m localcluster build` (or up)")
    return programs


def _up(arguments: argparse.Namespace) -> None:
    options = Options(
        profile=arguments.profile,
        kwok_nodes=arguments.kwok_nodes,
        hpa_sync=arguments.hpa_sync,
        default_client_limits=arguments.default_client_limits,
    )
    progress = Progress()
    started = cluster.up(arguments.name, options, progress=progress)
    if options.profile is Profile.NODE:
        progress.say(f"Prometheus: {started.prometheus_url}")
    progress.say(f'use it: eval "$(python3 -m localcluster env --name {started.name})"; kubectl get nodes')
    print(started.kubeconfig)


def _down(arguments: argparse.Namespace) -> int:
    progress = Progress()
    names = leftovers.clusters_on_this_machine() if arguments.all else [config.check_name(arguments.name)]
    if os.geteuid() != 0:
        raise Refusal("ending a cluster needs root: run again with sudo -E")
    left: list[str] = []
    with cluster.exclusive(progress):
        there = sorted(set(names) & set(leftovers.clusters_on_this_machine()))
        for name in there:
            left += leftovers.remove(name, progress=progress)
        left += leftovers.remove_shared()
    for thing in left:
        progress.say(f"left behind: {thing}")
    others = [] if arguments.all else leftovers.clusters_on_this_machine()
    if others:
        progress.say(f"not touched: {', '.join(others)} (`python3 -m localcluster down --all` ends every cluster)")
    done = f"ended {', '.join(there)}" if there else "nothing to end"
    progress.say(f"{done}; {f'{len(left)} things are left' if left else 'nothing is left'}")
    return 1 if left else 0


def _status(arguments: argparse.Namespace) -> int:
    found = find_cluster(arguments.name)
    plan = components(found, _programs())
    print(f"cluster {found.name}: profile {found.options.profile}, KWOK nodes {found.options.kwok_nodes}")
    all_run = True
    for name in (sandbox.HOLDER, *plan):
        process = processes.recorded(found.record(name))
        all_run &= process is not None
        print(f"  {name:<20} {f'running, pid {process.pid}' if process else f'NOT RUNNING, log {found.log(name)}'}")
    print(f"API server  {found.api_url}\nkubeconfig  {found.kubeconfig}\nlogs        {found.dir / 'log'}")
    if found.options.profile is Profile.NODE:
        print(f"Prometheus  {found.prometheus_url}")
    return 0 if all_run else 1


def _env(arguments: argparse.Namespace) -> None:
    found = find_cluster(arguments.name)
    addresses = found.addresses
    no_proxy = ",".join(filter(None, (os.environ.get("NO_PROXY"), addresses.link, addresses.services, addresses.pods)))
    print(f"export KUBECONFIG={shlex.quote(str(found.kubeconfig))}")
    print(f'export PATH={shlex.quote(str(_programs()))}:"$PATH"')
    print(f"export NO_PROXY={shlex.quote(no_proxy)} no_proxy={shlex.quote(no_proxy)}")
    if found.options.profile is Profile.NODE:
        print(f"export NEREUS_PROMETHEUS_URL={found.prometheus_url}")


def _build(_: argparse.Namespace) -> None:
    progress = Progress()
    packages.ensure_tools("setpriv", progress=progress)
    print(build.ensure_binaries(progress=progress))


def _bin(_: argparse.Namespace) -> None:
    print(_programs())


def _load_image(arguments: argparse.Namespace) -> None:
    for name in load_image(find_cluster(arguments.name), arguments.archive):
        print(name)


def _images(argv: list[str]) -> int:
    if importlib.util.find_spec("localcluster.images") is None:
        raise Refusal("this checkout has no localcluster/images.py, which builds the project's own images")
    return int(importlib.import_module("localcluster.images").main(argv) or 0)


def _exec(arguments: argparse.Namespace) -> None:
    command = sandbox.enter(sandbox.require_holder(find_cluster(arguments.name)), *arguments.command)
    os.execvp(command[0], command)  # noqa: S606 (the command is the user's own)


def _running(name: str) -> Cluster:
    found = find_cluster(name)
    sandbox.require_holder(found)
    return found


def _kill(arguments: argparse.Namespace) -> None:
    faults.kill_component(_running(arguments.name), arguments.component, programs=_programs())


def _start(arguments: argparse.Namespace) -> None:
    faults.start_component(_running(arguments.name), arguments.component, programs=_programs(), progress=Progress())
