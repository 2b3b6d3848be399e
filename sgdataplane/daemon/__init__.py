"""The agent: a daemon that keeps every attached ENI of a host enforced."""
