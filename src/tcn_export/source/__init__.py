"""What the user has: a trained network, read without running any code that came with it."""
