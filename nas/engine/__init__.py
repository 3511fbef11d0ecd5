"""The search: steps, loop, stages."""
