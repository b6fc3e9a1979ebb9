"""What a scaling policy would have done on a recorded load, and what it would have cost.

    trace.py, prometheus.py   where a load comes from: a file, or a range of a live Prometheus
    world.py                  the simulated cluster: arrivals, queue, cold starts, cost; many rows side by side
    baselines/                the scalers to compare with, one module each, one registry
    optimum.py                the cheapest any scaler could be that knew the future, with the same violation budget
    contest.py                one trace, one world, every policy, the same draws
    report.py, plot.py        for managers (HTML, SVG) and for machines (JSON)
    cli.py                    `nereus backtest`

It needs numpy and nothing else, and no cluster. The policy of Nereus is the very code that the operator runs.
"""
