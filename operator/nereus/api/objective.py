"""The objective of a service that states none: what its alerts, its scaling and a backtest take it to promise."""

from __future__ import annotations

from typing import Final

LATENCY_SECONDS: Final = 0.5
VIOLATIONS: Final = 0.01
"""Share of all requests that may take longer."""
