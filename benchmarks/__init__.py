"""Benchmarks of mmgraph against its peers."""
