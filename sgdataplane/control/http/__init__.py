"""HTTP: what clients send becomes calls, and what is answered goes back; how much of it is taken, and what is measured.

The highest floor of `control`: may import all others. Begin with api.py, which goes through a request from its bytes
to its answer; server.py has the sockets below it. client.py is the other end, for `sgdp group`.
"""
