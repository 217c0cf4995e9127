"""How the embedded generator was made: `python -m weights.training.morph --help`."""
