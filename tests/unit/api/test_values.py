"""Durations, quantities and source addresses: what a text means, and that every text is read or refused in words."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nereus.api.values import MAX_DURATION_MICROSECONDS, Duration, Quantity, SourceUri, decimal_of

UNITS = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("200ms", 0.2), ("1m30s", 90), ("1.5h", 5400), ("2h", 7200), ("0.5s", 0.5), ("168h", 604_800)],
)
def test_a_duration_is_the_sum_of_its_parts(text: str, seconds: float) -> None:
    assert Duration.parse(text).seconds == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1 s", "1d", "5S", "1s\n", "169h", ".5s", "1e3s", "٣s"])
def test_a_text_that_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write a number and a unit|longer than 168h"):
        Duration.parse(text)


@given(st.integers(0, 999_999), st.sampled_from(sorted(UNITS)))
def test_a_duration_keeps_its_length_when_written_and_read_again(number: int, unit: str) -> None:
    if number * UNITS[unit] > MAX_DURATION_MICROSECONDS or (unit == "h" and number > 9999):
        return
    duration = Duration.parse(f"{number}{unit}")
    assert duration.microseconds == number * UNITS[unit]
    assert str(Duration.parse(str(duration))) == str(duration)


@given(st.integers(0, MAX_DURATION_MICROSECONDS))
def test_durations_are_ordered_by_length(microseconds: int) -> None:
    assert Duration(microseconds) < Duration(microseconds + 1)
    assert Duration.of_seconds(Duration(microseconds).seconds) == Duration(microseconds)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("500m", "0.5"),
        ("2", "2"),
        (2, "2"),
        ("512Mi", str(512 * 1024**2)),
        ("1.5Gi", str(1024**3 * 3 // 2)),
        ("3k", "3000"),
    ],
)
def test_a_quantity_is_an_amount(text: str | int, amount: str) -> None:
    assert Quantity.parse(text).value == Decimal(amount)


@pytest.mark.parametrize("text", ["", "lots", "-1", "1e3", "1 Gi", "1GB", "Gi", "1\n", "9" * 33])
def test_a_text_that_is_no_quantity_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write e\.g\. 500m"):
        Quantity.parse(text)
    assert decimal_of(text) is None


@given(st.integers(0, 10**9), st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi"]))
def test_more_of_a_unit_is_a_larger_quantity(number: int, unit: str) -> None:
    assert Quantity.parse(f"{number}{unit}").value < Quantity.parse(f"{number + 1}{unit}").value


@pytest.mark.parametrize(
    ("text", "scheme", "name", "path"),
    [
        ("configmap://models", "configmap", "models", ""),
        ("configmap://models/resnet", "configmap", "models", "resnet"),
        ("pvc://claim", "pvc", "claim", ""),
        ("pvc://claim/a/b/", "pvc", "claim", "a/b"),
        ("https://host:8443/m.tar.gz?v=1", "https", "host:8443", "m.tar.gz?v=1"),
        ("https://[::1]:8443/m.onnx", "https", "[::1]:8443", "m.onnx"),
        ("s3://bucket.name/a/b", "s3", "bucket.name", "a/b"),
        ("s3://bucket", "s3", "bucket", ""),
        ("gs://bucket_name/m.onnx", "gs", "bucket_name", "m.onnx"),
        ("hf://Acme/net-7B.v1/onnx", "hf", "Acme", "net-7B.v1/onnx"),
    ],
)
def test_a_source_names_its_parts(text: str, scheme: str, name: str, path: str) -> None:
    source = SourceUri.parse(text)
    assert (source.scheme, source.name, source.path) == (scheme, name, path)
    assert source.is_volume == (scheme in ("configmap", "pvc"))


@given(st.text(max_size=40))
def test_any_text_is_a_safe_source_or_refused(text: str) -> None:
    for prefix in ("", "pvc://c/", "configmap://c/", "https://h/", "s3://bucket/", "gs://bucket/", "hf://a/b/"):
        try:
            source = SourceUri.parse(prefix + text)
        except ValueError:
            continue
        assert str(source) == prefix + text
        assert ".." not in source.path.split("/")
        assert not {" ", "\n", "\t", "\x00"} & set(source.text)


@given(st.text(max_size=12), st.sampled_from([Duration.parse, Quantity.parse]))
def test_any_text_is_read_or_refused_by_an_error_that_shows_it(text: str, parse: Callable[[str], object]) -> None:
    try:
        parse(text)
    except ValueError as error:
        refusal = str(error)
    else:
        return
    assert repr(text) in refusal
