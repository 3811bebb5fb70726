"""The whole story on real processes: `python -m demo`."""
