"""Who may call what: access keys, the signatures made with them, and the policies they have.

May import `calls`. Begin with permissions.py, whether a policy permits a call, and keys.py, who has which policy.
"""
