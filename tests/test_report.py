"""Reports: intervals, comparison, and every written form; the page in a real browser where there is one."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from rngcli.errors import NoInputError, UsageError
from rngcli.evaluation.report import (
    Case,
    Metric,
    Picture,
    Report,
    Row,
    bootstrap,
    form_of,
    read,
    summarise,
    terminal,
    write,
)
from rngcli.evaluation.report.comparison import compare
from rngcli.evaluation.report.comparison import terminal as comparison_table

PSNR = Metric("psnr", "PSNR", "high", 2, "dB")
LPIPS = Metric("lpips-squeeze", "LPIPS (squeeze)", "low", 4, "v0.1")
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


def rows(method: str, psnr: float, lpips: float | None, count: int = 12) -> list[Row]:
    rng = np.random.default_rng(0)
    wobble = rng.normal(0, 0.5, count)
    return [
        Row("σ=25", method, f"picture {i}", {"psnr": psnr + wobble[i], "lpips-squeeze": lpips}, 0.5, 1.0, 3.5)
        for i in range(count)
    ]


@pytest.fixture
def report() -> Report:
    pictures = tuple(
        Picture("σ=25", "picture 0", method, 8, 6, PIXEL, [0, 4, 8] if method == "rng" else [],
                [0, 6] if method == "rng" else [], [[0.5, 1.0]] if method == "rng" else [])
        for method in ("noisy", "clean", "reconstruct", "rng")
    )  # fmt: skip
    return Report(
        "a report | <b>&", (Case("σ=25", "white noise", 12),), ("reconstruct", "rng"), (PSNR, LPIPS),
        (*rows("reconstruct", 31, 0.25), *rows("rng", 30, 0.125)), {"model": "rng-s (abc)", "seed": "0"},
        ("x.png: torn </script>",), ("NIQE n/a",), pictures,
    )  # fmt: skip


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = [
        estimate.low <= 5 <= estimate.high
        for _ in range(200)
        if (estimate := bootstrap(rng.normal(5, 2, 40)))
    ]  # fmt: skip
    assert 0.90 <= np.mean(covered) <= 0.98
    assert bootstrap([None, None]) is None
    one = bootstrap([3.0, None])
    assert one is not None
    assert (one.mean, one.low, one.high, one.count) == (3.0, 3.0, 3.0, 1)


def test_summary_means_and_speed(report: Report) -> None:
    reconstruct, rng = summarise(report)
    assert (reconstruct.method, rng.method, rng.pictures) == ("reconstruct", "rng", 12)
    expected = np.mean([row.scores["psnr"] for row in report.rows[12:]])
    assert rng.scores["psnr"].mean == pytest.approx(expected)
    assert rng.seconds_per_megapixel == pytest.approx(2.0)
    assert rng.evaluations == 3.5


def test_json_and_csv_hold_every_row_to_the_last_digit(report: Report, tmp_path: Path) -> None:
    write(report, tmp_path / "r.json")
    assert read(tmp_path / "r.json") == replace(report, pictures=())
    lines = list(csv.DictReader(io.StringIO(form_of(Path("r.csv"))(report))))
    assert len(lines) == 24
    assert [float(line["psnr"]) for line in lines] == [row.scores["psnr"] for row in report.rows]
    write(replace(report, rows=tuple(rows("rng", 30, None))), tmp_path / "n.json")
    assert read(tmp_path / "n.json").rows[0].scores["lpips-squeeze"] is None
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(NoInputError, match="no JSON report"):
        read(tmp_path / "other.json")
    with pytest.raises(UsageError, match=r"\.json, \.csv, \.md, \.html"):
        write(report, tmp_path / "r.pdf")


def test_tables_mark_the_best_and_say_how_it_was_measured(report: Report) -> None:
    text = form_of(Path("r.md"))(report)
    line = next(line for line in text.splitlines() if line.startswith("| rng"))
    assert "**0.1250 [0.1250, 0.1250]**" in line
    assert "**3" not in line
    for words in ("white noise", "rng-s (abc)", "v0.1", "x.png: torn"):
        assert words in text
    console = Console(width=160, file=io.StringIO())
    console.print(terminal(report))
    shown = console.file.getvalue()
    for words in ("PSNR ↑", "LPIPS (squeeze) ↓", "0.1250", "white noise", "seed 0"):
        assert words in shown


def test_compare_gives_paired_differences(report: Report) -> None:
    better = replace(report, methods=("rng",), rows=tuple(rows("rng", 30.4, 0.125)))
    found = {d.metric.key: d.estimate for d in compare(report, better)}
    assert found["psnr"].mean == pytest.approx(0.4)
    # Pictures differ far more than the methods do; pairing takes that out.
    assert found["psnr"].high - found["psnr"].low < 1e-9
    console = Console(width=120, file=io.StringIO())
    console.print(comparison_table(compare(report, better), ("a", "b")))
    psnr, lpips = (line for line in console.file.getvalue().splitlines() if "PSNR" in line or "LPIPS" in line)
    assert "+0.40 [+0.40, +0.40]" in psnr
    assert psnr.rstrip(" │┃").endswith("b")
    assert "undecided" in lpips


def test_compare_refuses_what_cannot_be_compared(report: Report) -> None:
    with pytest.raises(UsageError, match="two protocols"):
        compare(report, replace(report, cases=(Case("σ=25", "another noise", 12),)))
    with pytest.raises(UsageError, match="share no picture"):
        compare(report, replace(report, cases=(Case("σ=50", "more", 1),), rows=()))
    with pytest.raises(UsageError, match="no method is in both"):
        compare(report, replace(report, methods=("x", "y")))
    single = replace(report, methods=("rng",), rows=tuple(rows("rng", 30, 0.1)))
    other = replace(report, methods=("new",), rows=tuple(rows("new", 31, 0.1)))
    assert compare(single, other)[0].methods == ("rng", "new")


def test_the_page_holds_its_data_unharmed(report: Report) -> None:
    page = form_of(Path("r.html"))(report)
    data = page.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    stored = json.loads(data)
    assert stored["problems"] == ["x.png: torn </script>"]
    assert stored["pictures"][3]["starts"] == [[0.5, 1.0]]
    assert "<title>a report | &lt;b&gt;&amp;</title>" in page
    assert "<!--" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.skipif(not shutil.which("chromium"), reason="there is no Chromium here")
def test_the_page_draws_itself_in_a_browser(report: Report, tmp_path: Path) -> None:
    # As a reader would: sort by PSNR, look at the step map, pull the border to the left.
    use = "document.querySelectorAll('#table th button')[3].click(); $('map').click(); move(0.25);"
    page = form_of(Path("r.html"))(report).replace("</body>", f"<script>{use}</script></body>")
    (tmp_path / "r.html").write_text(page)
    quiet = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    drawn = subprocess.run(
        ["chromium", "--headless", *quiet.split(), "--disable-component-update", "--disable-sync",
         f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=2000", "--dump-dom", f"file://{tmp_path}/r.html"],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    body = drawn.split("<script")[0]
    for words in ("a report | &lt;b&gt;&amp;", "24 of 24 rows", "x.png: torn &lt;/script&gt;", "<circle", "0.1250"):
        assert words in body
    assert body.count("<td") > 24 * 5
    assert 'aria-sort="ascending"><button type="button">PSNR ↑ ▲' in body
    assert "how much detail each tile of rng got [%]" in body
    assert body.count("<rect") == 2
    assert all(f">{share}</text>" in body for share in (50, 100))
    assert "inset(0px 75% 0px 0px)" in body
