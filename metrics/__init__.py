"""What operators measure: the series, and what counts them from outside of everything else."""
