"""The parts of a call, and its result: parameters as text and typed, answers, errors.

The lowest floor of `control`: imports nothing of it. Begin with answers.py. `tables/` has the fields of each action, of
requests and responses, as the cloud's SDK names them (made by tools/ecs_tables.py).
"""
