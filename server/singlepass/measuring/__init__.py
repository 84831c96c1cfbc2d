"""Benchmarks and plans: rates and workloads, what a request takes, which hardware suits."""
