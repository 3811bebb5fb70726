"""Moodle as a source of grades and as a gradebook."""
