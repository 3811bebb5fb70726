"""The web pages of eAssessment."""
