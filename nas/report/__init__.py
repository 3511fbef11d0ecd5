"""Reports for people: networks and runs as text and as HTML. Needs no JAX."""
