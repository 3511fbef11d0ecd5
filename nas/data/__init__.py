"""Data: from images on disk to batches."""
