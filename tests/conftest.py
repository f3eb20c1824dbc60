"""How every test runs: a busy machine is no failure, networks are random alike whatever ran before, signals count."""

import signal

import pytest
import torch
from hypothesis import settings

# A shell starts what runs in the background with SIGINT ignored, nohup with SIGHUP, and programs started from here
# would inherit that, and rng would respect it.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

settings.register_profile("house", deadline=None)
settings.load_profile("house")


@pytest.fixture(autouse=True)
def same_random_weights() -> None:
    torch.manual_seed(0)


if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell leaves it to what it starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
