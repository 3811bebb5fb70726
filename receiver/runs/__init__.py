"""Runs of the grade sync: their records, summaries and lease."""
