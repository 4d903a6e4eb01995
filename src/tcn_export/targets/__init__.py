"""The runtimes an artifact is made for: the only place that imports one."""
