"""The way of a state to this host's agent, and of the agent's answer back.

A state is a folder of generations; the answer is the agent's status.

Both `sgdp api` and `sgdp sync` hand over in this way. Stands on `store` (whose versions it names) and on the agent's
socket; imports neither `control` nor `relay`. Begin with publishing.py.
"""
