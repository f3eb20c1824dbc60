"""How every test runs: a busy machine is no failure, so property tests have no deadline."""

from hypothesis import settings

settings.register_profile("house", deadline=None)
settings.load_profile("house")
