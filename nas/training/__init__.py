"""Training of a frozen network from scratch."""
