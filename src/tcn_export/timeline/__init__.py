"""The time axis of a graph: what each value depends on, and which of its steps are needed."""
