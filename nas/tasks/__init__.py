"""Tasks: what a network is trained for. Classification is the first."""
