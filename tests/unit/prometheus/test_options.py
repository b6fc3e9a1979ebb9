"""Flags and environment of the Prometheus connection."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from nereus.prometheus.options import Labels, Options, OptionsError, add_arguments, from_arguments, split_matchers


def parsed(*arguments: str, **environment: str) -> Options:
    parser = argparse.ArgumentParser()

    def variable(name: str, default: str) -> str:
        return environment.get(name, default)

    add_arguments(parser, variable)
    return from_arguments(parser.parse_args(arguments))


def test_nothing_given_means_no_prometheus() -> None:
    assert parsed() == Options()


def test_environment_and_flags() -> None:
    options = parsed(
        *("--prometheus-labels", "ns,pod,svc", "--prometheus-scrape-interval", "30"),
        PROMETHEUS_URL="https://mimir.example/prometheus/",
        PROMETHEUS_HEADERS='{"X-Scope-OrgID": "team-a"}',
        PROMETHEUS_INSECURE="true",
        PROMETHEUS_TIMEOUT="5",
    )
    assert options.address == "https://mimir.example/prometheus"
    assert options.headers == {"X-Scope-OrgID": "team-a"}
    assert (options.insecure, options.timeout, options.scrape_interval) == (True, 5.0, 30.0)
    assert options.labels == Labels(namespace="ns", pod="pod", service="svc")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"address": "prometheus:9090"}, "not an http"),
        ({"address": "http://user:word@prometheus"}, "no password in the address"),
        ({"bearer_token_file": "t", "username": "u"}, "give one of them"),
        ({"cert_file": "c"}, "both or neither"),
        ({"timeout": 0}, "seconds between"),
        ({"scrape_interval": 900}, "300 s"),
        ({"window": 10, "scrape_interval": 15}, "at least two scrapes"),
        ({"matchers": "cluster=prod"}, "label matchers"),
        ({"matchers": 'a="b"} or vector(1) or up{x="'}, "label matchers"),
        ({"labels": Labels(pod="pod-name")}, "pod-name"),
    ],
)
def test_what_cannot_work_is_refused_with_the_flag_and_the_remedy(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionsError, match=says):
        Options(**fields)


@pytest.mark.parametrize("headers", ["[]", '{"a": 1}', "X-Scope: a"])
def test_headers_are_an_object_of_strings(headers: str) -> None:
    with pytest.raises(OptionsError, match="JSON object"):
        parsed("--prometheus-headers", headers)


def test_matchers_are_split_outside_of_quotes() -> None:
    assert split_matchers('a="x,y",b!~"z\\",w"') == ['a="x,y"', 'b!~"z\\",w"']
