"""The histories of the two databases: one folder of revisions for each service."""
