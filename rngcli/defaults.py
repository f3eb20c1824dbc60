"""What holds where nothing is said, in the command and in Python alike; loads nothing."""

DEFAULT_MODEL = "rng-s"  # a shipped model's name
MOST_STEPS = 10_000  # evaluations of a generator: far beyond what any process has levels for
