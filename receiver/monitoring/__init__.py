"""Monitoring: metrics and doctor."""
