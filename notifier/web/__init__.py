"""The doors of eAssessment: the grades API, the admin API, and the pages for people."""
