"""Static int8: ranges from real windows, Q/DQ nodes in the graph, coverage counted."""
