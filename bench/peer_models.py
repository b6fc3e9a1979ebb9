"""Forecasters of others, run inside their own environment: `python peer_models.py MODEL TASK.npz ANSWER.npz`.

The task holds `load` (one value per minute), `origins` (minutes at which to forecast; only what is up to and with that
minute may be used) and `steps` (minutes to look ahead). The answer holds `path`, the point forecasts of the next
minutes, shape (origins, steps), and `seconds`, the CPU time spent. Nothing of Nereus is imported here.
"""

from __future__ import annotations

import importlib
import logging
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

DAY = 1440
DYNAMO_INTERVAL = 3
"""Minutes: NVIDIA Dynamo's planner forecasts means of 180 s, one interval after the other."""
DYNAMO_PROPHET_WINDOW = 50
DYNAMO_ARIMA_START = 480
"""Intervals that the ARIMA is first fitted on. The planner takes five; more is kinder to it."""
ETS_MINUTES, THETA_DAYS, PROPHET_DAYS, PROPHET_STEP = 360, 3, 7, 5
LEAST_DAYS = 2.0

Array = Any
Model = Callable[[Array, Array, int], Array]


def auto_ets(load: Array, origins: Array, steps: int) -> Array:
    """AutoETS of statsforecast, no season (it allows none of 1440), on the last six hours."""
    models = importlib.import_module("statsforecast.models")

    return np.stack(
        [models.AutoETS().forecast(load[max(0, o + 1 - ETS_MINUTES) : o + 1], steps)["mean"] for o in origins]
    )


def auto_theta(load: Array, origins: Array, steps: int) -> Array:
    """AutoTheta of statsforecast with a daily season, on the last three days."""
    models = importlib.import_module("statsforecast.models")

    made = []
    for origin in origins:
        past = load[max(0, origin + 1 - THETA_DAYS * DAY) : origin + 1]
        season = DAY if len(past) >= LEAST_DAYS * DAY and past.min() > 0 else 1
        made.append(models.AutoTheta(season_length=season).forecast(past, steps)["mean"])
    return np.stack(made)


def prophet(load: Array, origins: Array, steps: int) -> Array:
    """Prophet with day and week seasons on the last seven days of five-minute means."""
    made = []
    for origin in origins:
        count = min(origin + 1, PROPHET_DAYS * DAY) // PROPHET_STEP * PROPHET_STEP
        past = load[origin + 1 - count : origin + 1].reshape(-1, PROPHET_STEP).mean(1)
        begin = origin + 1 - count + PROPHET_STEP / 2
        made.append(_prophet(past, begin, PROPHET_STEP, origin + 1 + np.arange(steps)))
    return np.stack(made)


def dynamo_prophet(load: Array, origins: Array, steps: int) -> Array:
    """Prophet as Dynamo's planner uses it: fitted again each time on the last fifty intervals."""
    made = []
    for origin in origins:
        past = _intervals(load[: origin + 1])[-DYNAMO_PROPHET_WINDOW:]
        ahead = len(past) + np.arange(-(-steps // DYNAMO_INTERVAL))
        made.append(np.repeat(_prophet(past, 0, DYNAMO_INTERVAL, DYNAMO_INTERVAL * ahead), DYNAMO_INTERVAL)[:steps])
    return np.stack(made)


def _prophet(past: Array, begin: float, step: float, minutes: Array) -> Array:
    pandas, prophet_module = importlib.import_module("pandas"), importlib.import_module("prophet")

    start = pandas.Timestamp("2024-01-01")
    times = start + pandas.to_timedelta(begin + step * np.arange(len(past)), unit="min")
    model = prophet_module.Prophet(uncertainty_samples=0)
    model.fit(pandas.DataFrame({"ds": times, "y": past}))
    ahead = pandas.DataFrame({"ds": start + pandas.to_timedelta(minutes, unit="min")})
    return np.maximum(model.predict(ahead)["yhat"].to_numpy(), 0)


def dynamo_arima(load: Array, origins: Array, steps: int) -> Array:
    """auto_arima without season, fitted once and then updated, as Dynamo's planner does by default."""
    values = _intervals(load[: origins[0] + 1])[-DYNAMO_ARIMA_START:]
    model = importlib.import_module("pmdarima").auto_arima(
        values, seasonal=False, suppress_warnings=True, error_action="ignore"
    )
    seen, made = origins[0], []
    for origin in origins:
        count = (origin - seen) // DYNAMO_INTERVAL * DYNAMO_INTERVAL
        if count:
            model.update(_intervals(load[seen + 1 : seen + 1 + count]))
            seen += count
        path = model.predict(int(-(-(steps + origin - seen) // DYNAMO_INTERVAL)))
        made.append(np.repeat(np.maximum(path, 0), DYNAMO_INTERVAL)[origin - seen :][:steps])
    return np.stack(made)


def _intervals(load: Array) -> Array:
    """Means of three minutes, the last one ending with the last minute."""
    count = len(load) // DYNAMO_INTERVAL * DYNAMO_INTERVAL
    return load[len(load) - count :].reshape(-1, DYNAMO_INTERVAL).mean(1)


MODELS: dict[str, Model] = {
    "AutoETS": auto_ets,
    "AutoTheta": auto_theta,
    "Prophet": prophet,
    "Dynamo Prophet": dynamo_prophet,
    "Dynamo ARIMA": dynamo_arima,
}


def main(name: str, task_path: str, answer_path: str) -> None:
    """One model on one load."""
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    with np.load(task_path) as task:
        load, origins, steps = task["load"], task["origins"], int(task["steps"])
    begin = time.process_time()
    path = MODELS[name](load, origins, steps)
    np.savez(answer_path, path=np.asarray(path, float), seconds=time.process_time() - begin)


if __name__ == "__main__":
    main(*sys.argv[1:])
