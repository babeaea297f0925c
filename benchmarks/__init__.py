"""Benchmarks: what the app costs, and how well it uses the rate limit. See docs/benchmarks.md."""
