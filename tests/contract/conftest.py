"""What the wire's tests share."""

from hypothesis import settings

# A busy machine is no fault of the wire: pytest's own time-out is the only clock here.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
