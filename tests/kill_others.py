"""kill -9 of `rng eval` or `rng train`, then the same again: `python -m tests.kill_others eval --kills 100 --seed 0`.

After every kill, what is left must be whole: the report absent or the undisturbed one's, the training's state and its
bundle loadable. A resumed run that has come to its end must have measured, or learned, what an undisturbed one does:
the same scores of the same pictures, each once; the same weights, bit for bit, and a log that counts upwards. Then all
is removed, until the kills are used up.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import torch

from rngcli.models.bundle import load, save
from tests.kill import WARM
from tests.kill import rng as command
from tests.tiny import clouds, random_bundle

SAVED_EVERY = 3  # steps: a training of seconds has many checkpoints to be killed in


class Victim(Protocol):
    """A command that is killed: what it says, what it has got done so far, and what is wrong with what it left."""

    def arguments(self, place: Path) -> list[str]: ...

    def done(self, place: Path) -> int: ...

    def result(self, place: Path) -> Any: ...

    def faults(self, place: Path) -> list[str]: ...


class Eval:
    """Three columns over a folder of clean pictures; the journal beside the report grows line by line."""

    def __init__(self, place: Path) -> None:
        self.clean, self.model = place / "clean", place / "tiny"
        self.clean.mkdir()
        clouds(self.clean, 8, (96, 80))
        save(random_bundle(), self.model)

    def arguments(self, place: Path) -> list[str]:
        return ["eval", "--clean", str(self.clean), "--sigma", "25,50", "--method", "input,reconstruct,rng", "--metric",
                "psnr,ssim", "--model", str(self.model), "--device", "cpu", "--batch-size", "1", "--examples", "0",
                "--report", str(place / "report.json"), "--quiet"]  # fmt: skip

    def done(self, place: Path) -> int:
        return sum(path.stat().st_size for path in place.iterdir() if path.name != "said")

    def result(self, place: Path) -> Any:
        report = json.loads((place / "report.json").read_text())
        rows = [{key: value for key, value in row.items() if "second" not in key} for row in report["rows"]]
        return sorted(map(json.dumps, rows))

    def faults(self, place: Path) -> list[str]:
        return []


class Train:
    """Twelve steps of a tiny reconstruction, with a checkpoint every few."""

    def __init__(self, place: Path) -> None:
        self.photographs = place / "photographs"
        self.photographs.mkdir()
        clouds(self.photographs, 3, (96, 80))

    def arguments(self, place: Path) -> list[str]:
        size = ["--steps", "12", "--batch", "2", "--crop", "32", "--size", "xs"]
        return ["train", "reconstruct", "--data", str(self.photographs), "--run", str(place / "run"), *size,
                "--no-compile", "--device", "cpu", "--quiet"]  # fmt: skip

    def done(self, place: Path) -> int:
        return sum(path.stat().st_mtime_ns for path in place.glob("run/**/*") if path.is_file())

    def result(self, place: Path) -> Any:
        bundle = load(place / "run" / "bundle.safetensors")
        weights = [part for net in bundle.networks.values() for part in net.state_dict().values()]
        steps = [json.loads(line)["step"] for line in (place / "run/reconstruct/log.jsonl").read_text().splitlines()]
        assert steps == sorted(set(steps)), f"the log counts {steps}"
        return torch.cat([part.double().flatten() for part in weights]).tolist()

    def faults(self, place: Path) -> list[str]:
        state, bundle = place / "run/reconstruct/state.pt", place / "run/bundle.safetensors"
        try:
            if state.exists():
                torch.load(state, weights_only=True)
            if bundle.exists():
                load(bundle)
        except Exception as error:
            return [f"not whole: {error!r}"]
        return []


def run(arguments: list[str], said: str) -> None:
    """The command, its checkpoints by steps instead of minutes, and its tables nowhere."""
    from rngcli.training.trainer import Trainer

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with mock.patch.object(Trainer, "_is_due", lambda trainer: trainer.step % SAVED_EVERY == 0):
        command(arguments, said)


class Killing:
    """A victim that is killed again and again until it has come to its end; then anew."""

    def __init__(self, place: Path, victim: Victim, seed: int) -> None:
        self.place, self.victim, self.chance = place, victim, random.Random(seed)
        self.processes = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload([*WARM, "rngcli.cli.eval", "rngcli.cli.train", "rngcli.training.trainer"])
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.expected, self.span = None, 0.0
        begun = time.monotonic()
        self.once(kill=False)
        self.span, self.expected = time.monotonic() - begun, self.victim.result(self.place / "out")
        shutil.rmtree(self.place / "out")

    def once(self, kill: bool) -> None:
        """Start, or go on; kill it at any moment of its work, half of the times just after it has written something."""
        out = self.place / "out"
        out.mkdir(exist_ok=True)
        before = self.victim.done(out)
        process = self.processes.Process(target=run, args=(self.victim.arguments(out), str(self.place / "said")))
        process.start()
        if kill and self.chance.random() < 0.5:
            process.join(self.chance.uniform(0, self.span))
        while kill and process.exitcode is None and self.victim.done(out) == before:
            time.sleep(0.002)
        if kill:
            process.join(self.chance.expovariate(1 / 0.005))
            process.kill()
        process.join()
        self.judge(out, process.exitcode or 0)

    def judge(self, out: Path, code: int) -> None:
        self.counts["ended" if code >= 0 else "killed"] += 1
        self.wrong += self.victim.faults(out)
        if code > 0:
            self.wrong.append(f"exit code {code}: {(self.place / 'said').read_text()[-300:]}")
        elif code == 0 and self.expected is not None:
            if self.victim.result(out) != self.expected:
                self.wrong.append("what a resumed run has come to differs")
            shutil.rmtree(out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("what", choices=["eval", "train"])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        victim: Victim = Eval(Path(place)) if given.what == "eval" else Train(Path(place))
        killing = Killing(Path(place), victim, given.seed)
        while killing.counts["killed"] < given.kills:
            killing.once(kill=True)
        if (Path(place) / "out").exists():
            killing.once(kill=False)
    print(
        dict(killing.counts), *killing.wrong or ["every end as undisturbed, nothing half-written on the way"], sep="\n"
    )
    return bool(killing.wrong)


if __name__ == "__main__":
    sys.exit(main())
