"""The commands: click options become a frozen dataclass, one call, a report, an exit code."""
