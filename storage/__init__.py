"""MongoDB and the object store: the ports of `domain` kept by real things."""
