"""What every station shares about a run: configuration, checkpoints, logs."""
