"""A process's life: its start and end, its logs, and the mongod of one machine."""
