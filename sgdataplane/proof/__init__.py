"""Validate the compiler's translation: does a table do what the specification says, for every packet?"""
