"""Each signal that asks a process to end does so by KeyboardInterrupt; one that was ignored before stays ignored."""

import os
import signal
import threading

import pytest

from rngcli.signals import NUMBERS, interruptible


@pytest.mark.parametrize("number", NUMBERS)
def test_each_signal_interrupts_and_the_handlers_come_back(number):
    before = [signal.getsignal(n) for n in NUMBERS]
    with interruptible(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
    assert [signal.getsignal(n) for n in NUMBERS] == before
    assert signal.SIGHUP in NUMBERS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_a_shell_or_nohup_ignores_stays_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), number)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_outside_the_main_thread_nothing_changes():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with interruptible():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
