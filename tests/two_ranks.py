"""What each of two ranks does in test_training_distributed: train, label, say so; then fail on one rank only."""

import sys
from pathlib import Path

import torch

from rngcli.data.crops import Batches, Photographs
from rngcli.errors import RngError
from rngcli.training.distributed import find_ranks
from rngcli.training.labels import Labels
from rngcli.training.sampler import Sampler
from rngcli.training.stages.reconstruct import Reconstruct
from rngcli.training.trainer import Trainer, TrainSpec
from tests.tiny import NAF, random_bundle, random_lpips

SPEC = TrainSpec(steps=4, lr=3e-3, warmup=1)


class Poisoned(Reconstruct):
    """Its loss is no number from one step on, on rank 1."""

    def loss(self, forward, rng):
        loss = super().loss(forward, rng)
        return loss * float("nan") if ranks.rank == 1 and failing.step == 2 else loss


def labelled(labels, batches, patches, ranks=None):
    sampler = Sampler(random_bundle(), torch.device("cpu"))
    while len(labels) < patches:
        labels.extend(sampler, random_lpips(), batches, ranks)
    return labels


def main(photographs, out):
    batches = Batches(Photographs.load(sorted(photographs.glob("*.png")), 64), size=2)
    torch.manual_seed(ranks.rank)  # other weights on each rank, until training begins
    trainer = Trainer(Reconstruct(NAF, batches), SPEC, out / "trained", ranks)
    reports = list(trainer.run())
    torch.save(
        {"net": trainer.stage.net.state_dict(), "average": trainer.average.state_dict(), "reports": len(reports)},
        out / f"rank{ranks.rank}.pt",
    )
    labels = labelled(Labels(out / f"labels{ranks.rank}.pt", random_bundle(), ""), batches, 4, ranks)
    torch.save((labels.lpips, labels.psnr), out / f"table{ranks.rank}.pt")
    global failing
    failing = Trainer(Poisoned(NAF, batches), SPEC, out / "failed", ranks)
    try:
        list(failing.run())
    except RngError as error:
        (out / f"error{ranks.rank}.txt").write_text(f"{error}\n{ranks.speaks()}")
    ranks.leave()


if __name__ == "__main__":
    ranks = find_ranks()
    assert ranks.device_name("cpu") == "cpu"
    main(Path(sys.argv[1]), Path(sys.argv[2]))
