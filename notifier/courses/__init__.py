"""Courses, their tokens and their grades."""
