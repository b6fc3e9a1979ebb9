"""Nereus: a Kubernetes operator that turns a ModelService into a correct, self-explaining Triton deployment.

This package has no code of its own: the rooms below it hold one capability each (see docs/architecture.md).
"""

__version__ = "0.1.0"
