"""How every test runs: a busy machine is no failure, and networks are random in the same way whatever ran before."""

import signal

import pytest
import torch
from hypothesis import settings

settings.register_profile("house", deadline=None)
settings.load_profile("house")


@pytest.fixture(autouse=True)
def same_random_weights() -> None:
    torch.manual_seed(0)


if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell leaves it to what it starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
