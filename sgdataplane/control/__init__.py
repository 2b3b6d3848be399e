"""The control plane: the cloud's own API over a durable store, so that official SDKs change what packets may do.

    SDK --HTTP--> http --> service --> actions (pure) --> store --> hosts: the agent's folder, a lab

Its packages are floors. Each may import those that stand below it here, and `store`, which is below all of them:

    http        bytes to calls and back: server, admission, threads, limits, what is measured
    service     which part answers what; the actions of ours, and heavy answers in processes of their own
    hosts       where the state is enforced, and how far it has come there
    actions     what each action does to the documents, whether the result is a state, and the commit
    access      who may call what: keys, signatures, policies
    calls       a call's parameters, its answer or error

Normative: control-plane.md. Needs the extra `api`; neither the agent nor the other verbs import any of it. Begin with
actions/engine.py: one call from documents to a commit.
"""
