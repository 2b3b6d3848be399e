"""A lab of whole hosts: each with its own agent, and with the control plane that they follow, on one machine."""
