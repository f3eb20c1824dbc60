"""`python -m rngcli` is `rng`."""

from .cli import main

main()
