"""What `rng eval`'s page shows beside its tables: every case's pictures, the worst, differences, scores over σ."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from scipy.ndimage import uniform_filter

from rngcli.data import Pair, with_noise
from rngcli.evaluation import Column, Evaluation, EvaluationPlan, closeups
from rngcli.evaluation.closeups import WORST, Closeups
from rngcli.evaluation.report import Report, form_of, summarise, terminal
from rngcli.evaluation.report.record import ENOUGH, bootstrap, bracket
from rngcli.inference.engine import Job, Result
from rngcli.metrics.suite import Judge, Metric, Options
from tests.browser import drawn, in_a_browser

PSNR = Metric("psnr", "PSNR", "high", 2, "dB")
COUNT = 12


def smoothing(width: int) -> Column:
    """A denoiser of a kind, called as if it were the model's."""

    def run(jobs: Iterable[Job], sigma: float | None) -> Iterator[Result]:
        for job in jobs:
            pixels = uniform_filter(job.pixels, (width, width, 1)).clip(0, 1)
            yield Result(job.key, pixels, np.full((1, 2), width, np.int32), 0.0)

    return Column({3: "reconstruct", 5: "rng"}[width], run)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("clean")
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        texture = uniform_filter(rng.random((48, 64, 3)), (9, 9, 1)) + rng.normal(0, 0.01 * i, (48, 64, 3))
        Image.fromarray((texture.clip(0, 1) * 255).astype(np.uint8)).save(place / f"{i:02d}.png")
    return place


def measure(folder: Path, sigmas: list[float], journal: Path | None = None, count: int = COUNT) -> Report:
    benchmarks = [benchmark.limited(count) for benchmark in with_noise(folder, sigmas)]
    plan = EvaluationPlan(benchmarks, [smoothing(3), smoothing(5)], Judge(Options(names=("psnr", "ssim"))), 2)
    return Evaluation(plan, journal).run("rng eval: a test")


def decoded(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))).convert("RGB"), float)


def test_pictures_of_every_case_are_kept(folder: Path) -> None:
    report = measure(folder, [10, 25, 50])
    kept = {(p.case, p.key, p.method) for p in report.pictures}
    cases = [case.name for case in report.cases]
    assert [case.sigma for case in report.cases] == [10, 25, 50]
    methods = ("noisy", "clean", "reconstruct", "rng")
    assert kept == {(case, key, method) for case in cases for key in ("00", "11") for method in methods}
    noisy = [decoded(p.uri) for p in report.pictures if (p.key, p.method) == ("00", "noisy")]
    assert np.std(noisy[0]) < np.std(noisy[1]) < np.std(noisy[2])


def test_the_worst_of_each_case_and_method_are_kept_at_100_percent(folder: Path, tmp_path: Path) -> None:
    report = measure(folder, [10, 25], tmp_path / "r.json.partial")
    assert len(report.closeups) == 2 * 2 * WORST
    one = [c for c in report.closeups if (c.case, c.method) == (report.cases[1].name, "rng")]
    scores = {row.key: row.scores["psnr"] for row in report.rows if (row.case, row.method) == (one[0].case, "rng")}
    assert [c.key for c in one] == sorted(scores, key=lambda key: scores[key])[:WORST]
    again = measure(folder, [10, 25], tmp_path / "r.json.partial")
    assert again.closeups == report.closeups, "also those of rows that were measured before a stop"
    x, y, width, height = one[0].box
    truth = np.asarray(Image.open(folder / f"{one[0].key}.png"), float)[y : y + height, x : x + width]
    assert np.abs(decoded(one[0].clean) - truth).mean() < 7
    error = np.minimum(8 * np.abs(decoded(one[0].output) - truth), 255)
    assert decoded(one[0].error).mean() == pytest.approx(error.mean(), rel=0.25)


def test_closeups_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    kept = Closeups([PSNR])
    for method in ("a", "b"):
        for i in range(WORST + 4):
            clean = rng.random((32, 32, 3)).astype(np.float32)
            result = Result(str(i), clean, np.zeros((0, 0), np.int32), 0.0)
            kept.of("case", Pair(str(i), clean, clean), method, result, {"psnr": 30.0 - i})
    assert len(kept.all) == 2 * WORST
    size = sum(len(text) for c in kept.all for text in (c.noisy, c.output, c.clean, c.error))
    monkeypatch.setattr(closeups, "ROOM", size // 2)
    assert [(c.method, c.key) for c in kept.all] == [
        (method, str(i)) for method in ("a", "b") for i in range(WORST + 3, WORST + 3 - len(kept.all) // 2, -1)
    ]
    assert 0 < len(kept.all) < 2 * WORST
    assert kept.of("case", Pair("x", clean, None), "a", result, {"psnr": None}) is None


def test_few_pictures_have_no_interval_and_it_is_said(folder: Path) -> None:
    values = [float(i * i) for i in range(ENOUGH - 1)]
    few, many = bootstrap(values), bootstrap([*values, 100.0])
    assert few
    assert many
    assert (few.low, few.high, few.is_interval) == (0, values[-1], False)
    assert many.is_interval
    assert 0 < many.low < many.mean < many.high < 100
    report = measure(folder, [25], count=4)
    console = Console(width=160, file=io.StringIO())
    console.print(terminal(report))
    for text in (form_of(Path("r.md"))(report), console.file.getvalue(), bracket(summarise(report))):  # type: ignore[attr-defined]
        assert "min–max" in text
        assert "bootstrap" not in text
    assert "bootstrap" in form_of(Path("r.md"))(measure(folder, [25]))


USE = """
const change = (id, value) => { $(id).value = value; $(id).dispatchEvent(new Event('change')); };
change('gain-metric', 'PSNR');
change('worst-method', 'reconstruct');
change('picture', 'NAME σ=50 / 11');
$('error').click(); $('panes').click();
document.title = getComputedStyle(document.body).backgroundColor + ' ' + document.documentElement.scrollWidth;
"""


@in_a_browser
@pytest.mark.parametrize(("width", "dark"), [(1100, False), (500, True)])
def test_the_page_can_be_used(folder: Path, tmp_path: Path, width: int, dark: bool) -> None:
    report = measure(folder, [25, 50])
    body = drawn(form_of(Path("r.html"))(report), tmp_path, USE.replace("NAME", folder.name), width, dark)
    assert body.startswith("rgb(25, 26, 27)" if dark else "rgb(253, 253, 252)")
    assert int(body.split("\n")[0].split()[-1]) <= width, "the page itself never scrolls sideways"
    # Over σ: PSNR and SSIM do not both tell of perception; there is one plot a score.
    assert f"PSNR over σ on {folder.name}" in body
    psnr = {(row.case, row.key, row.method): row.scores["psnr"] for row in report.rows}
    case = report.cases[0].name
    gains = [psnr[case, f"{i:02d}", "rng"] - psnr[case, f"{i:02d}", "reconstruct"] for i in range(COUNT)]
    better = sum(gain > 0 for gain in gains)
    assert f"better on {better} of {COUNT} pictures, mean {np.mean(gains):+.2f}" in body
    assert body.count("Histogram of the difference in PSNR") == 1
    closeup = body.split('id="worst-list"')[1].split("</section>")[0]
    assert closeup.count("<article") == WORST
    assert closeup.count("<img") == 4 * WORST
    assert "reconstruct: PSNR" in closeup
    look = body.split('id="looked"')[1].split("</section>")[0]
    assert look.count("<img") == 3, "three panes"
    assert all(f'alt="11, {name}"' in look for name in ("noisy", "error of rng", "clean"))
    assert "PSNR − reconstruct" in body
    assert ("wider" in body.split('id="every"')[1]) == (width == 500)
    assert "← more columns" in body
