"""Least privilege from what was seen: which rules would carry the traffic of a state, and which rules nothing has used.

This package is pure: it is given a state and evidence, and returns another state. It needs no kernel.
"""
