"""Gradebooks: where fetched grades are written."""
