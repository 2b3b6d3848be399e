"""The vocabulary below cloud and nftables: addresses, ports, protocols, packets. Imports the standard library only."""
