"""The registry: the courses in the grade sync."""
