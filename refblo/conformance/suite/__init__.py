"""The conformance suite: somebody else's hypergradient, in a process of its own, over the catalogue."""
