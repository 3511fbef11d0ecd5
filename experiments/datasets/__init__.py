"""Scripts that rebuild the embedded data."""
