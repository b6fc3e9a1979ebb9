"""The command `nereus`: the operator, the sidecar, and what a person asks without a cluster.

Each command imports what it needs when it runs: the sidecar's image has only the sidecar's packages, and the rooms
that render are not in it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nereus

PROG = "nereus"
OK, FAILED = 0, 1
PURPOSES = {
    "ConfigMap": "the plan: which models every pod serves, and how",
    "ControllerRevision": "the pod template as it was rendered; a new release of Nereus does not change it",
    "Service": "the address for clients: HTTP and gRPC",
    "PodDisruptionBudget": "node drains take one pod at a time",
    "Deployment": "the Triton pods; their number is set by the autoscaler, or by hand under strategy Manual",
    "HorizontalPodAutoscaler": "how many pods there are",
    "PodMonitor": "where Prometheus reads the metrics",
    "PrometheusRule": "the alerts; docs/alerts.md says what each means",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Handed over untouched: these have arguments of their own.
    if arguments[:1] == ["run"]:
        from nereus.controller.main import run

        return run(arguments[1:])
    if arguments[:1] == ["sidecar"]:
        from nereus.sidecar.main import main as sidecar

        return sidecar(arguments[1:])
    if arguments[:1] == ["agent"]:
        from nereus.agent.main import main as agent

        return agent(arguments[1:])
    if arguments[:1] == ["explain"]:
        from nereus.controller.explain import main as explain

        return explain(arguments[1:])
    if arguments[:1] == ["backtest"]:
        from nereus.backtest.cli import main as backtest

        return backtest(arguments[1:])
    given = _parser(os.environ).parse_args(arguments)
    try:
        status: int = given.command(given)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough: `nereus render FILE | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return status


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    from nereus.api.names import RUNBOOKS

    parser = argparse.ArgumentParser(prog=PROG, description="NVIDIA Triton on Kubernetes, declared as a ModelService.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    commands.add_parser("run", help="run the operator (nereus run --help)")
    commands.add_parser("sidecar", help="run beside Triton in a pod (nereus sidecar --help)")
    commands.add_parser("agent", help="report GPU memory per pod on a node (nereus agent --help)")
    commands.add_parser("explain", help="why a service is not ready, why N pods (nereus explain --help)")
    commands.add_parser("backtest", help="what a scaling policy would have done (nereus backtest --help)")

    render = commands.add_parser(
        "render",
        help="print every object that a ModelService becomes, without a cluster",
        description="Checks each ModelService in the files and prints every object that it becomes. Exit status 1"
        " when one cannot be rendered; every problem is listed on standard error.",
    )
    render.add_argument("files", nargs="*", metavar="FILE", help="YAML files; - is standard input")
    render.add_argument(
        "--triton-image",
        default=environment.get("NEREUS_TRITON_IMAGE") or f"nereus/triton-cpu:{nereus.__version__}",
        help="image of services that name none [NEREUS_TRITON_IMAGE, otherwise %(default)s]",
    )
    render.add_argument(
        "--sidecar-image",
        default=environment.get("NEREUS_SIDECAR_IMAGE") or f"nereus/sidecar:{nereus.__version__}",
        help="image of the sidecar [NEREUS_SIDECAR_IMAGE, otherwise %(default)s]",
    )
    render.add_argument(
        "--sidecar-pull-policy",
        default=environment.get("NEREUS_SIDECAR_PULL_POLICY") or "IfNotPresent",
        choices=["Always", "IfNotPresent", "Never"],
        help="when the kubelet pulls it [NEREUS_SIDECAR_PULL_POLICY, otherwise %(default)s]",
    )
    render.add_argument(
        "--nodes", metavar="FILE", help="output of `kubectl get nodes -o yaml`: what spec.gpu is chosen from"
    )
    render.add_argument(
        "--rules",
        choices=["service", "fleet", "operator"],
        help="print a rules file for a Prometheus without prometheus-operator instead: the alerts of the services in"
        " the files, of any fleet whose thresholds the operator exports, or of the operator",
    )
    render.add_argument(
        "--runbooks",
        metavar="URL",
        default=environment.get("NEREUS_RUNBOOKS") or RUNBOOKS,
        help="address below which the pages of the alerts lie [NEREUS_RUNBOOKS, otherwise %(default)s]",
    )
    render.add_argument("--pod-monitor", action="store_true", help="as in a cluster that has prometheus-operator")
    render.set_defaults(command=_render)

    commands.add_parser("crd", help="print the CustomResourceDefinition").set_defaults(command=_crd)
    commands.add_parser("version", help="print the version").set_defaults(command=_version)
    return parser


def _version(_: argparse.Namespace) -> int:
    print(f"{PROG} {nereus.__version__}")
    return OK


def _crd(_: argparse.Namespace) -> int:
    from nereus.api.crd import custom_resource_definition

    print(to_yaml(custom_resource_definition()), end="")
    return OK


def _render(given: argparse.Namespace) -> int:
    from nereus.alerting.rules import rules_file, service_group
    from nereus.api import service as services
    from nereus.api.names import KIND
    from nereus.api.problems import InvalidSpecError
    from nereus.gpu.nodes import read as read_node
    from nereus.rendering import render
    from nereus.workload.settings import Settings

    settings = Settings(
        sidecar_image=given.sidecar_image,
        triton_image=given.triton_image,
        sidecar_pull_policy=given.sidecar_pull_policy,
        pod_monitor=given.pod_monitor,
        prometheus_rule=given.pod_monitor,
        runbooks=given.runbooks,
    )
    texts: list[str] = []
    complaints: list[str] = []
    nodes = None
    if given.nodes:
        try:
            nodes = tuple(filter(None, map(read_node, _listed(given.nodes))))
        except ValueError as error:
            complaints.append(f"{given.nodes}: {error}")
    groups = _rule_groups(given.rules, given.runbooks)
    found = len(groups)
    if not given.files and not groups:
        complaints.append("no FILE given: name YAML files, or - for standard input")
    for file in given.files:
        try:
            resources = list(_documents(file))
        except ValueError as error:
            complaints.append(f"{file}: {error}")
            continue
        for resource in resources:
            if resource.get("kind") != KIND:
                continue
            found += 1
            try:
                service = services.read(resource)
                if given.rules:
                    groups.append(service_group(service, runbooks=given.runbooks))
                    continue
                texts += [_document(manifest) for manifest in render(service, settings=settings, nodes=nodes).objects]
            except InvalidSpecError as error:
                where = f"{file}: {KIND} {(resource.get('metadata') or {}).get('name', 'without a name')}"
                complaints += [f"{where}: {problem}" for problem in error.problems]
    if not found and not complaints:
        complaints.append(f"{', '.join(given.files)}: no {KIND} found")
    print(to_yaml(rules_file(*groups)) if given.rules else "".join(texts), end="")
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return FAILED if complaints else OK


def _listed(file: str) -> Iterator[dict[str, Any]]:
    """The objects in a file, those of a List one by one. Raises ValueError."""
    for document in _documents(file):
        yield from document.get("items") or [document]


def _rule_groups(wished: str | None, runbooks: str) -> list[dict[str, Any]]:
    """The groups of rules that need no file."""
    from nereus.alerting.rules import fleet_group, operator_group

    groups = {"fleet": fleet_group, "operator": operator_group}
    return [groups[wished](runbooks=runbooks)] if wished in groups else []


def _documents(file: str) -> Iterator[dict[str, Any]]:
    """The objects in a YAML file. Raises ValueError with what is wrong and where."""
    import yaml

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        for document in yaml.safe_load_all(text):
            if document is None:
                continue
            if not isinstance(document, dict):
                raise ValueError(f"a Kubernetes object was expected, not {type(document).__name__}")
            yield document
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"is not YAML: {error}") from None


def _document(manifest: Mapping[str, Any]) -> str:
    kind, metadata = str(manifest["kind"]), manifest["metadata"]
    title = f"# {kind} {metadata['namespace']}/{metadata['name']}: {PURPOSES[kind]}"
    return f"---\n{title}\n{to_yaml(manifest)}"


def to_yaml(value: Mapping[str, Any]) -> str:
    """YAML as people read it: no anchors, keys in our order, long texts not folded."""
    import yaml

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, _data: Any) -> bool:
            return True

    return str(yaml.dump(value, Dumper=Plain, sort_keys=False, width=10_000, allow_unicode=True))
