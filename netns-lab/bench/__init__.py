"""The benchmark: what packets, connections and changes cost, ours beside other filters. No part of the product."""
