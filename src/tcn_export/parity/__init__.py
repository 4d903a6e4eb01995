"""Does the artifact still compute what the eager model computes? A verdict, not a warning."""
