"""What Darkroom is: its values and rules, its ports, and the use cases that need nothing else."""
