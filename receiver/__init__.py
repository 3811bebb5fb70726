"""ELMS: hears what happened in eAssessment, remembers it, and syncs grades accordingly."""
