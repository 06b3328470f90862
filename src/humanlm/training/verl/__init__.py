"""The verl engine: the same training on a Ray cluster, or on one CPU with the backend in ``cpu``."""
