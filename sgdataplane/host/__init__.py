"""The rest of the kernel: namespaces, links, addresses, routes, sysctls. Knows no policy."""
