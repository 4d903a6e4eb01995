"""Exact changes to a graph, one per file; `plans` says which run for a target."""
