"""Planning a search before it starts: which runs are possible, what they cost, and how they share the machine."""
