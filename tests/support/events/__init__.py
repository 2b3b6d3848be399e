"""What happens in a scene while a test watches: sessions, floods, changes, restarts and failures.

    talks, crowd         sessions with ends in the test's process, and very many of them
    numbered, pinged, eavesdrop    streams whose packets are counted one by one
    steps, applier, regrouping    policies that change, by processes that know nothing of each other
    restarts, hostsmoving, hostsfailing    workloads and hosts that end, move and fail
    ordeal, starving     an agent under load from all sides

May import `scenes` and what is below.
"""
