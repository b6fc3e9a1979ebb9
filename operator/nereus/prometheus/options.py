"""Where Prometheus is and how to talk to it: flags, each with an environment variable that the chart sets.

Secrets come as files, because files rotate and flags are seen by everybody on the node.
"""

from __future__ import annotations

import argparse
import json
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

DEFAULT_TIMEOUT = 10.0
"""Seconds; below the tick of 15 s, so that a slow answer never reaches into the next one."""
LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
MATCHERS = re.compile(r'\s*[a-zA-Z_][a-zA-Z0-9_]*\s*(=|!=|=~|!~)\s*"(?:[^"\\]|\\.)*"\s*')


class OptionsError(ValueError):
    """A setting that cannot work; the message names it, its value and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What the labels are called that say whose a series is; they depend on how Prometheus finds its targets."""

    namespace: str = "namespace"
    pod: str = "pod"
    service: str = "serving_nereus_dev_service"


@dataclass(frozen=True, kw_only=True)
class Options:
    """`address` is empty when there is no Prometheus. `matchers` (such as `cluster="prod"`) narrow every query.

    `scrape_interval` is 0 when it is to be learned from what is seen, `window` (of rates) when it is to follow from it.
    `recorded` reads the series of the recording
    rules instead of computing rates from raw series at every tick.
    """

    address: str = ""
    bearer_token_file: str = ""
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    insecure: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float = DEFAULT_TIMEOUT
    matchers: str = ""
    labels: Labels = field(default_factory=Labels)
    scrape_interval: float = 0.0
    window: float = 0.0
    recorded: bool = False

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.address)
        if self.address and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise OptionsError(f"--prometheus {self.address}: is not an http:// or https:// address")
        if parts.username or parts.password:
            raise OptionsError("--prometheus: no password in the address; use --prometheus-username and -password-file")
        if self.bearer_token_file and self.username:
            raise OptionsError("--prometheus-token-file and --prometheus-username: give one of them")
        if bool(self.cert_file) != bool(self.key_file):
            raise OptionsError("--prometheus-cert-file and --prometheus-key-file: give both or neither")
        if not 0.1 <= self.timeout <= 600:
            raise OptionsError(f"--prometheus-timeout {self.timeout:g}: seconds between 0.1 and 600 are needed")
        if not 0 <= self.scrape_interval <= 300:
            raise OptionsError(
                f"--prometheus-scrape-interval {self.scrape_interval:g}: 0 (learn it) to 300 s are possible"
            )
        if self.window and not 2 * self.scrape_interval <= self.window <= 3600:
            raise OptionsError(
                f"--prometheus-window {self.window:g}: at least two scrapes, at most an hour is possible"
            )
        if self.matchers and not all(MATCHERS.fullmatch(part) for part in split_matchers(self.matchers)):
            raise OptionsError(f'--prometheus-matchers {self.matchers}: write label matchers such as cluster="prod"')
        for name in (self.labels.namespace, self.labels.pod, self.labels.service):
            if not LABEL_NAME.fullmatch(name):
                raise OptionsError(f"--prometheus-labels: {name!r} is not the name of a Prometheus label")


def split_matchers(text: str) -> list[str]:
    """The matchers of a list, at commas outside of quotes."""
    return [part for part in re.findall(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+', text) if part.strip()]


Variable = Callable[[str, str], str]
"""`variable(name, default)` gives the value of `NEREUS_<name>`."""


def add_arguments(parser: argparse.ArgumentParser, variable: Variable) -> None:
    """Adds every flag."""
    add_connection_arguments(parser, variable, purpose="address; empty: no load is read")
    _add_reading_arguments(parser, variable)


def add_connection_arguments(parser: argparse.ArgumentParser, variable: Variable, *, purpose: str) -> None:
    """Adds the flags for whoever only asks."""
    add = parser.add_argument_group("Prometheus").add_argument
    add("--prometheus", metavar="URL", default=variable("PROMETHEUS_URL", ""), help=purpose)
    add("--prometheus-token-file", default=variable("PROMETHEUS_TOKEN_FILE", ""), help="bearer token, read at each use")
    add("--prometheus-username", default=variable("PROMETHEUS_USERNAME", ""), help="for basic authentication")
    add("--prometheus-password-file", default=variable("PROMETHEUS_PASSWORD_FILE", ""))
    add(
        "--prometheus-ca-file", default=variable("PROMETHEUS_CA_FILE", ""), help="authority of the server's certificate"
    )
    add("--prometheus-cert-file", default=variable("PROMETHEUS_CERT_FILE", ""), help="client certificate")
    add("--prometheus-key-file", default=variable("PROMETHEUS_KEY_FILE", ""))
    add(
        "--prometheus-insecure",
        default=variable("PROMETHEUS_INSECURE", "false"),
        choices=["true", "false"],
        help="true: the server's certificate is not verified",
    )
    add(
        "--prometheus-headers",
        metavar="JSON",
        default=variable("PROMETHEUS_HEADERS", "{}"),
        help='more headers, such as {"X-Scope-OrgID": "team-a"}',
    )
    add(
        "--prometheus-timeout",
        metavar="SECONDS",
        type=float,
        default=variable("PROMETHEUS_TIMEOUT", f"{DEFAULT_TIMEOUT:g}"),
        help="for one answer, at most",
    )


def _add_reading_arguments(parser: argparse.ArgumentParser, variable: Variable) -> None:
    add = parser.add_argument_group("What is read from Prometheus").add_argument
    add(
        "--prometheus-matchers",
        default=variable("PROMETHEUS_MATCHERS", ""),
        help='narrow every query, such as cluster="prod"',
    )
    add(
        "--prometheus-labels",
        metavar="NAMESPACE,POD,SERVICE",
        default=variable("PROMETHEUS_LABELS", ",".join(vars(Labels()).values())),
        help="names of the labels that say whose a series is",
    )
    add(
        "--prometheus-scrape-interval",
        metavar="SECONDS",
        type=float,
        default=variable("PROMETHEUS_SCRAPE_INTERVAL", "0"),
        help="of the Triton pods; 0: learned from what is seen",
    )
    add(
        "--prometheus-window",
        metavar="SECONDS",
        type=float,
        default=variable("PROMETHEUS_WINDOW", "0"),
        help="over which rates are taken; 0: four scrapes",
    )
    add(
        "--prometheus-recorded",
        default=variable("PROMETHEUS_RECORDED", "false"),
        choices=["true", "false"],
        help="true: read the series of the recording rules",
    )


def connection(given: argparse.Namespace) -> Options:
    """From `add_connection_arguments`. Raises OptionsError."""
    return Options(
        address=given.prometheus.rstrip("/"),
        bearer_token_file=given.prometheus_token_file,
        username=given.prometheus_username,
        password_file=given.prometheus_password_file,
        ca_file=given.prometheus_ca_file,
        cert_file=given.prometheus_cert_file,
        key_file=given.prometheus_key_file,
        insecure=given.prometheus_insecure == "true",
        headers=_headers(given.prometheus_headers),
        timeout=given.prometheus_timeout,
    )


def from_arguments(given: argparse.Namespace) -> Options:
    """From `add_arguments`. Raises OptionsError."""
    names = [name.strip() for name in given.prometheus_labels.split(",")]
    if len(names) != 3:
        raise OptionsError(
            f"--prometheus-labels {given.prometheus_labels}: three names are needed: namespace,pod,service"
        )
    return replace(
        connection(given),
        matchers=given.prometheus_matchers,
        labels=Labels(namespace=names[0], pod=names[1], service=names[2]),
        scrape_interval=given.prometheus_scrape_interval,
        window=given.prometheus_window,
        recorded=given.prometheus_recorded == "true",
    )


def read_secret(path: str) -> str:
    """The content of a file without the line end that editors add. Raises OSError."""
    return Path(path).read_text().strip()


def _headers(text: str) -> dict[str, str]:
    try:
        headers = json.loads(text or "{}")
    except ValueError:
        headers = None
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise OptionsError(f"--prometheus-headers {text}: a JSON object of strings is needed")
    return headers
