"""Benchmarks behind the numbers in docs/benchmarks.md; each prints what it measured."""
