"""The webhook route and its inbox."""
