"""The ground that each service stands on: settings, database, logs, problems, terminal."""
