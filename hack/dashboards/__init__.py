"""The Grafana dashboards, as code: `fleet`, `service` and `operator`, written into the chart by `make generate`.

Here and not in the operator: they are made once, when the project is built, with a package that no image needs. Metric
names come from `nereus.alerting.conventions`, as those of the rules do.
"""

from __future__ import annotations

import json

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from hack.dashboards import fleet, operator, service

FOLDER = "charts/nereus/dashboards"


def files() -> dict[str, str]:
    """Path and content of every dashboard."""
    built = {"fleet": fleet.dashboard(), "service": service.dashboard(), "operator": operator.dashboard()}
    return {
        f"{FOLDER}/nereus-{name}.json": json.dumps(
            json.loads(JSONEncoder(sort_keys=True).encode(board)), indent=1, sort_keys=True
        )
        + "\n"
        for name, board in built.items()
    }
