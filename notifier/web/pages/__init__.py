"""The pages of eAssessment: one module for each place, all listed in `site`."""
