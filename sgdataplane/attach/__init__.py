"""The binding of workloads' interfaces to ENIs, and the enforcement of a state at this host's attached ENIs."""
