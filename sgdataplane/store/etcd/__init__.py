"""The store in etcd, for several machines. Begin with keys.py, the layout, then store.py.

    access <-- client --> messages        how etcd is reached and called
    keys <-- chunks, summaries <-- store  what is done there, in which order

Needs the extra `etcd`.
"""
