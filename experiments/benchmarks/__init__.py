"""Benchmarks: each module is a question, with its answer; `side_by_side` runs them, `results` has the CSVs."""
