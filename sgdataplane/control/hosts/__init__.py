"""Where the state is enforced, and how far it has come there: at places of this process, and at hosts by relays.

May import `actions` and what is below: claims of hosts become commits. Begin with following.py for places, with
status.py for hosts.
"""
