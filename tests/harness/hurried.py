"""`nereus run` whose scaling lives faster: NEREUS_HURRY times as many minutes pass for the policy, and as many ticks;
and which asks more often whether rules are loaded, which kinds the cluster knows, and what nodes and GPU agents say,
and gives an autoscaler less time to read its metrics.

Scaling down takes minutes by design, and a test has seconds. Certificates are renewed after seconds, too. Everything
else, Prometheus and its rates among it, keeps real time; so the samples are as they would be, only older habits are
forgotten sooner. With NEREUS_STUCK, a watch is compared with the cluster every second, and is called stuck when it owed
something for as many seconds.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path

from nereus.cli import main
from nereus.controller import (
    audit,
    certificate,
    gpuguard,
    gpus,
    loadedrules,
    reconcile,
    registration,
    scaler,
    statuswriter,
)
from nereus.controller import main as controller
from nereus.diagnosis import again, autoscaling
from nereus.scaling import clock

HURRY = float(os.environ["NEREUS_HURRY"])
BEGAN = time.time()
CLOCK = os.environ.get("NEREUS_HURRY_CLOCK", "")


def hurried_clock() -> float:
    """A clock that may be set: ahead by as many seconds as the file NEREUS_HURRY_CLOCK says."""
    ahead = float(Path(CLOCK).read_text()) if CLOCK else 0.0
    return BEGAN + HURRY * (time.time() - BEGAN) + ahead


if __name__ == "__main__":
    if CLOCK:
        Path(CLOCK).with_name(f"began-{os.environ['NEREUS_POD_NAME']}").write_text(str(BEGAN))
    statuswriter.FIGURES_SECONDS = 1.0
    certificate.RENEW_SECONDS, registration.OVERLAP_SECONDS, registration.LOOK_SECONDS = 15.0, 4.0, 1.0
    clock.AHEAD_SECONDS *= HURRY  # a busy machine is no clock that was set
    scaler.TICK_SECONDS = max(0.5, scaler.TICK_SECONDS / HURRY)
    controller.DISCOVERY_SECONDS = loadedrules.ASK_SECONDS = loadedrules.SHARE = 1.0
    loadedrules.PATIENCE_SECONDS /= HURRY
    reconcile.RULES_AGAIN_SECONDS = 2.0
    gpus.NODES_SECONDS /= HURRY
    gpus.SHARE_OF_TIME = 1.0
    gpuguard.LOOK_SECONDS /= HURRY
    vars(autoscaling)["METRICS_GRACE"] = vars(again)["METRICS_GRACE"] = autoscaling.METRICS_GRACE / HURRY
    vars(controller)["Agents"] = partial(gpus.Agents, every=gpus.AGENTS_SECONDS / HURRY)
    vars(controller)["Scaler"] = partial(scaler.Scaler, clock=hurried_clock)
    if stuck := os.environ.get("NEREUS_STUCK"):
        controller.STUCK_SECONDS = float(stuck)
        audit.EVERY_SECONDS = audit.RETRY_SECONDS = 1.0
    sys.exit(main(sys.argv[1:]))
