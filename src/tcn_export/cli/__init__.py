"""The commands: click options become one frozen dataclass, one call, a report, an exit code."""
