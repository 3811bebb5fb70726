"""eAssessment: what happened to a course, told to the platforms that want to know."""
