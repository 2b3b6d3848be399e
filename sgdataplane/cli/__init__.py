"""The command line: one module for each verb, or for a few that belong together.

A verb is one line: arguments -> where it looks (scopes.py) -> a value from the packages below -> what is printed
(terminal/output.py). Must not hold logic beyond that.
"""
