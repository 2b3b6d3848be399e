"""HTTP: makes calls of what clients send, and sends answers back; how much is taken, and what is measured.

The highest floor of `control`: may import all others. Begin with api.py, which goes through a request from its bytes to
its answer; server.py has the sockets below it. client.py is the other end, for `sgdp group`.
"""
