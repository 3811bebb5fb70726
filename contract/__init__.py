"""The wire: what eAssessment and ELMS agree on, and nothing else."""
