"""The places where the state is enforced, and how far each has come: of this process, and hosts by relays.

May import `actions` and what is below: claims of hosts become commits. Begin with following.py for places, with
status.py for hosts.
"""
