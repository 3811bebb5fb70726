"""eAssessment: courses, grades and webhooks."""
