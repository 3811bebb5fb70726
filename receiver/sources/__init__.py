"""Sources: the eAssessment sites that grades are fetched from."""
