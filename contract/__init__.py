"""What eAssessment and ELMS agree on: events, signatures, tokens, grades, problem documents."""
