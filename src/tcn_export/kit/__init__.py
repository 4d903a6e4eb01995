"""The device kit: one script, free of PyTorch and tcn-export, that builds and proves an engine."""
