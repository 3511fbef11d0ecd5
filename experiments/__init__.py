"""Recipes and evidence: configurations, data sets, benchmarks, questions with their answers."""
