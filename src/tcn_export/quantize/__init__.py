"""Static int8: ranges from real windows, Q/DQ nodes written into the graph, coverage counted."""
