"""The device kit: one script, without PyTorch or tcn-export, that proves an engine."""
