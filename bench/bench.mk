# Benchmarks; included by the Makefile. BENCH_ARGS reach the benchmark: --help lists them.
BENCH ?= scaling

.PHONY: bench
bench: venv ## measure: BENCH=scaling|compare|heldout|forecast|tick|scale|triton|metricsapi|fetch|prometheus|alerts|panels|rules; tables on the screen, JSON under build/bench/
	@PYTHONPATH=operator:. OMP_NUM_THREADS=1 $(VENV)/bin/python -m bench.$(BENCH) $(BENCH_ARGS)
