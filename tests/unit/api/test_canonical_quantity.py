"""Amounts are written as the API server stores them, so that what is wished and what is stored can be compared."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nereus.api.values import Quantity, canonical_quantity

# Each pair was asked of apimachinery 0.35.4 (resource.ParseQuantity(text).String()).
STORED = {
    "0": "0",
    "0.0": "0",
    "1000m": "1",
    "0.5": "500m",
    "0.500": "500m",
    "1.500": "1.500",
    "1.5": "1500m",
    "1500m": "1500m",
    "100000": "100k",
    "1200000": "1200k",
    "1024Mi": "1Gi",
    "1536Mi": "1536Mi",
    "1.5Gi": "1536Mi",
    "2048Ki": "2Mi",
    "0.5Ki": "512",
    "1.1Ki": "1126400m",
    "62.5Ki": "64k",
    "1000Mi": "1000Mi",
    "8192Mi": "8Gi",
    "0.0001": "100u",
    "0.0000000001": "1n",
    "4000M": "4G",
    "007": "007",
}


@pytest.mark.parametrize(("text", "stored"), STORED.items())
def test_an_amount_is_written_as_the_server_stores_it(text: str, stored: str) -> None:
    assert canonical_quantity(text) == stored


def test_a_plain_number_is_an_amount() -> None:
    assert canonical_quantity(2) == "2"


@pytest.mark.parametrize("text", ["abc", "", "-1", "1e3", "70%"])
def test_a_text_that_is_no_amount_is_left_alone(text: str) -> None:
    assert canonical_quantity(text) == text


@given(
    st.integers(0, 10**9),
    st.sampled_from(["", ".5", ".25", ".125", ".500"]),
    st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi"]),
)
def test_writing_changes_no_amount_and_is_done_once(whole: int, fraction: str, suffix: str) -> None:
    text = f"{whole}{fraction}{suffix}"
    written = canonical_quantity(text)
    assert canonical_quantity(written) == written
    if written[-1] not in "nu":  # finer than a user may write, so not read back
        assert Quantity.parse(written).value == Quantity.parse(text).value
    else:
        scale = {"u": Decimal("0.000001"), "n": Decimal("0.000000001")}[written[-1]]
        assert Decimal(written[:-1]) * scale == Quantity.parse(text).value
