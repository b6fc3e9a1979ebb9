"""MIG profiles by GPU model: names, and how many fit on one GPU.

From NVIDIA's mig-parted (deployments/systemd/config-default.yaml, August 2026) and the MIG user guide. Used to name
candidates and to refuse what no GPU has; what a node really offers is read from the node.
"""

from __future__ import annotations

import re

_PROFILE = re.compile(r"^(?P<slices>[0-9]+)g\.(?P<gib>[0-9]+)gb(?P<attribute>(\.[a-z.]+)?)$")

# Key: what the product label contains (lower case), the most telling first. Value: profile -> instances per GPU.
TABLE: tuple[tuple[tuple[str, ...], dict[str, int]], ...] = (
    (("a30",), {"1g.6gb": 4, "2g.12gb": 2, "4g.24gb": 1}),
    (("a100", "40gb"), {"1g.5gb": 7, "1g.10gb": 4, "2g.10gb": 3, "3g.20gb": 2, "4g.20gb": 1, "7g.40gb": 1}),
    (("a100", "80gb"), {"1g.10gb": 7, "1g.20gb": 4, "2g.20gb": 3, "3g.40gb": 2, "4g.40gb": 1, "7g.80gb": 1}),
    (("h100", "nvl"), {"1g.12gb": 7, "1g.24gb": 4, "2g.24gb": 3, "3g.47gb": 2, "4g.47gb": 1, "7g.94gb": 1}),
    (("h100",), {"1g.10gb": 7, "1g.20gb": 4, "2g.20gb": 3, "3g.40gb": 2, "4g.40gb": 1, "7g.80gb": 1}),
    (("h200",), {"1g.18gb": 7, "1g.35gb": 4, "2g.35gb": 3, "3g.71gb": 2, "4g.71gb": 1, "7g.141gb": 1}),
    (("gh200", "144"), {"1g.18gb": 7, "1g.36gb": 4, "2g.36gb": 3, "3g.72gb": 2, "4g.72gb": 1, "7g.144gb": 1}),
    (("h20",), {"1g.12gb": 7, "1g.24gb": 4, "2g.24gb": 3, "3g.48gb": 2, "4g.48gb": 1, "7g.96gb": 1}),
    (("gb300",), {"1g.35gb": 7, "1g.70gb": 4, "2g.70gb": 3, "3g.139gb": 2, "4g.139gb": 1, "7g.278gb": 1}),
    (("b300",), {"1g.34gb": 7, "1g.67gb": 4, "2g.67gb": 3, "3g.135gb": 2, "4g.135gb": 1, "7g.269gb": 1}),
    (("gb200",), {"1g.23gb": 7, "1g.47gb": 4, "2g.47gb": 3, "3g.93gb": 2, "4g.93gb": 1, "7g.186gb": 1}),
    (("b200",), {"1g.23gb": 7, "1g.45gb": 4, "2g.45gb": 3, "3g.90gb": 2, "4g.90gb": 1, "7g.180gb": 1}),
    (("rtx-pro-6000",), {"1g.24gb": 4, "2g.48gb": 2, "4g.96gb": 1}),
)
LARGEST_GIB = 288
"""The most memory that one GPU of these generations has (B300, GB300: 288 GB of HBM3e)."""
USABLE_SHARE = 0.9
"""Of a profile's nominal gigabytes, at least this much is usable: 1g.5gb has 4864 MiB (0.95), and a node's label
nvidia.com/mig-PROFILE.memory says the exact number where GPU feature discovery runs."""


def nominal_gib(profile: str) -> int | None:
    """The gigabytes in a profile's name; None when it is no MIG profile."""
    found = _PROFILE.match(profile)
    return int(found["gib"]) if found else None


def slices(profile: str) -> int:
    """Compute slices, the first number of the name."""
    found = _PROFILE.match(profile)
    return int(found["slices"]) if found else 0


def plain(profile: str) -> bool:
    """Whether it is a profile for compute without attributes: `.me` has the media engines of a whole GPU, of which
    there is one, and `.gfx` is for graphics."""
    found = _PROFILE.match(profile)
    return found is not None and not found["attribute"]


def of_product(product: str) -> dict[str, int]:
    """The profiles of a GPU model, by the text of its product label; empty when it has none, or is not known."""
    text = product.lower()
    for words, found in TABLE:
        if all(word in text for word in words):
            return found
    return {}


def largest_gib(product: str) -> int | None:
    """The most memory that a GPU of this model has; of any model when none is named; None when it is not known."""
    if not product:
        return LARGEST_GIB
    found = [nominal_gib(profile) or 0 for profile in of_product(product)]
    return max(found) if found else None


def smallest_for(product: str, memory_bytes: int) -> str | None:
    """The smallest profile of a GPU model that certainly holds so much; None when there is none."""
    fitting = [
        (nominal_gib(profile) or 0, slices(profile), profile)
        for profile in of_product(product)
        if usable_bytes(profile) >= memory_bytes
    ]
    return min(fitting)[2] if fitting else None


def usable_bytes(profile: str) -> int:
    """What a slice of this profile holds at least."""
    return int((nominal_gib(profile) or 0) * USABLE_SHARE * 2**30)
