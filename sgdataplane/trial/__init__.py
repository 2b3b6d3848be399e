"""Trials: they count, without any verdict, what a change of the policy would do to the traffic of today."""
