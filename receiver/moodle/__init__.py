"""Moodle's web services: asked for grades, and written to."""
