"""Every failure a user can meet: one class a kind, each with its exit code and what to do next."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Process exit codes; the table in the README is made from these."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    MODEL = 3
    NO_INPUT = 4
    ENVIRONMENT = 5
    INTERRUPTED = 130


class RngError(Exception):
    """A failure with a cause and a remedy.

    `str(error)` is one line: the cause, then, after a semicolon, the remedy.
    """

    code: Exit = Exit.SOME_FAILED

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(f"{cause}; {remedy}" if remedy else cause)
        self.cause = cause
        self.remedy = remedy


class UsageError(RngError):
    """The command was asked for something it cannot mean."""

    code = Exit.USAGE


class ModelError(RngError):
    """Weights are absent, damaged, or not what they claim to be."""

    code = Exit.MODEL


class NoInputError(RngError):
    """There is nothing to work on."""

    code = Exit.NO_INPUT


class EnvironmentFault(RngError):
    """The device, the memory or the disk refuses."""

    code = Exit.ENVIRONMENT


class PictureError(RngError):
    """One picture cannot be read or written; the batch goes on without it."""

    code = Exit.SOME_FAILED


class Diverged(RngError):
    """A training step gave no finite numbers."""


class Interrupted(RngError):
    """The user pressed Ctrl-C, or the system asked the process to end."""

    code = Exit.INTERRUPTED
