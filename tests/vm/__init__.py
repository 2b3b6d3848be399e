"""The product on the kernels that Debian ships: virtual machines, what runs in them, the report (`make test-vm`)."""
