"""The commands of `photodrag`: each a frozen dataclass whose fields are its options, and a `run`."""
