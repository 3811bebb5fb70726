"""The HTTP API of eAssessment."""
