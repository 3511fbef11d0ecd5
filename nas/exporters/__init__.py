"""Trained networks as files of other tools, and checks of these files."""
