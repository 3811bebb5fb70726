"""The command line of both services: output, parameters, checks, database commands."""
