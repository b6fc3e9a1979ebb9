"""The registry of mechanisms: one module each, one line here, the strongest first."""

from nereus.api.spec.gpu import Isolation
from nereus.gpu.mechanisms.driver_limit import DRIVER_LIMIT
from nereus.gpu.mechanisms.exclusive import EXCLUSIVE
from nereus.gpu.mechanisms.hami import HAMI
from nereus.gpu.mechanisms.mig import MIG
from nereus.gpu.mechanisms.mps import MPS
from nereus.gpu.mechanisms.unenforced import UNENFORCED
from nereus.gpu.offer import Mechanism

REGISTRY: tuple[Mechanism, ...] = (EXCLUSIVE, MIG, DRIVER_LIMIT, MPS, HAMI, UNENFORCED)


def mechanism(name: Isolation) -> Mechanism:
    """The mechanism of this name; KeyError for Auto, which is a choice among them."""
    return {entry.name: entry for entry in REGISTRY}[name]
