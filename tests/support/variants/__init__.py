"""The product's programs with one thing changed. Tests start them instead of `sgdp`.

    faultyagent, dying   with faults; killed at a chosen moment
    promptagent, promptrecorder, terseagent    other intervals and limits
    strangekernel, otherplatform    as if the kernel lacked something, or wasn't Linux
    slowforks            heavy answers that go wrong

Imports nothing else of `tests.support`.
"""
