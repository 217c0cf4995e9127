"""How the embedded generator was made: `python -m weights.training --help`."""
