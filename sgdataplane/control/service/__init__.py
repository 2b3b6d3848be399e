"""The choice of what answers a call: the engine, or what stands behind the actions of ours.

May import `hosts` and what is below. Begin with dispatch.py. Answers that may take long (heavy.py) are computed
(analysis.py) from the documents that they follow from (parts.py), in processes beside the API: aside.py is its end,
forkserver.py the other one, and jobs.py what passes from one to the other.
"""
