"""Process 2: trains one generation of one job, started and killed by its daemon."""
