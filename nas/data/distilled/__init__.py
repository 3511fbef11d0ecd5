"""Distilled data sets: their files on disk, and the split that reads them.

`nas.distillation` makes them; no teacher is needed to read one.
"""
