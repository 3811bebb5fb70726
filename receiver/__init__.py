"""ELMS: receives webhooks and syncs grades."""
