"""tinyserver and Synapse under the same load on the same machine; see docs/benchmarks.md."""
