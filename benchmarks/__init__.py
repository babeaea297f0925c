"""What the app costs and how well it keeps the pace, measured: make bench, docs/benchmarks.md."""
