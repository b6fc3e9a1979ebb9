"""What every tier shares: property tests draw the same examples in every run, so that a failure is never a surprise."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("deterministic", derandomize=True, deadline=None, database=None, max_examples=50)
settings.load_profile("deterministic")
