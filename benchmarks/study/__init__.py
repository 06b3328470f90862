"""The study of methods in the controlled world: `python -m benchmarks.study --help`."""
