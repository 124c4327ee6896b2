"""Benchmarks of tinyserver: micro-benchmarks of its parts, and `compare`, the whole server beside Synapse."""
