"""How fast it is, where the time goes, and what one would have without it: measured within one run."""
