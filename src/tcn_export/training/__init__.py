"""Training of the networks in `models`. Nobody but the command line imports this."""
