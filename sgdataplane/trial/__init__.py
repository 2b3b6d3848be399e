"""Trials: what a change of the policy would do to the traffic of today, counted in the kernel without any verdict."""
