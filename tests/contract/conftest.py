"""Settings of Hypothesis; pytest's own time-out is the only one."""

from hypothesis import settings

settings.register_profile("contract", deadline=None, max_examples=25)
settings.load_profile("contract")
