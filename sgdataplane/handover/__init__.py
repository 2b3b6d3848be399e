"""How a state gets to this host's agent, and what the agent says of it: as a folder of generations, and by its status.

Both `sgdp api` and `sgdp sync` hand over in this way. Stands on `store` (whose versions it names) and on the agent's
socket; imports neither `control` nor `relay`. Begin with publishing.py.
"""
