"""The control plane: the cloud's own API over a durable store, so that official SDKs change what packets may do.

    SDK --HTTP--> http --> engine --> actions (pure) --> validation --> store --> publish --> the agent's folder

Normative: control-plane.md. Needs the extra `api`; neither the agent nor the other verbs import any of it.
"""
