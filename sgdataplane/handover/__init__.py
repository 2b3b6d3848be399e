"""The way of a state to this host's agent, and of the agent's answer back: a folder of generations, and its status.

Both `sgdp api` and `sgdp sync` hand over in this way. Stands on `store` (whose versions it names) and on the agent's
socket; imports neither `control` nor `relay`. Begin with publishing.py.
"""
