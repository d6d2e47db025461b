"""MongoDB, the object store, imaging and the queue: what implements the ports of `domain`."""
