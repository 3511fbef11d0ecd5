"""Benchmarks: each module asks one question; `side_by_side` runs them, `results` has the CSVs."""
