"""The doors of eAssessment: the grades API and the admin API."""
