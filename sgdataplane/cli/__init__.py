"""The command line: one module per family of verbs.

Is given arguments; asks the packages below and prints. Must not hold logic beyond that.
"""
