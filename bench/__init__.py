"""Benchmarks: `make bench BENCH=scaling|forecast|scale`. Tables on the screen, JSON under build/bench/."""
