"""What the operator is told at its start."""

from __future__ import annotations

import pytest

from nereus.controller.options import parse


def test_the_environment_of_the_chart_is_enough() -> None:
    options = parse(
        [],
        {
            "NEREUS_POD_NAME": "nereus-1",
            "NEREUS_NAMESPACE": "sys",
            "NEREUS_SIDECAR_IMAGE": "sidecar:1",
            "NEREUS_SIDECAR_PULL_POLICY": "Never",
            "NEREUS_TRITON_IMAGE": "",
            "NEREUS_WATCH_NAMESPACES": "a, b,",
            "NEREUS_LOG_LEVEL": "warning",
        },
    )
    assert (options.identity, options.namespace, options.watch_namespaces) == ("nereus-1", "sys", ("a", "b"))
    assert (options.settings.sidecar_image, options.settings.sidecar_pull_policy) == ("sidecar:1", "Never")
    assert (options.http_port, options.log_level) == (8080, "warning")


def test_a_flag_outranks_its_variable() -> None:
    options = parse(["--sidecar-image", "b", "--http-port=9"], {"NEREUS_SIDECAR_IMAGE": "a", "NEREUS_HTTP_PORT": "8"})
    assert (options.settings.sidecar_image, options.http_port) == ("b", 9)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "--sidecar-image"),
        (["--sidecar-image=a", "--workers=0"], "--workers 0"),
        (["--sidecar-image=a", "--log-level=loud"], "--log-level"),
        (["--sidecar-image=a", "--unknown"], "--unknown"),
    ],
)
def test_a_wrong_flag_is_named(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(argv, {})
    assert caught.value.code == 2
    assert words in capsys.readouterr().err
