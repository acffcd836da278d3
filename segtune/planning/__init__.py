"""Before a search starts: what is possible, what it costs, how trials share the machine."""
