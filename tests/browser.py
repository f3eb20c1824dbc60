"""A headless Chromium, where there is one: what a page has drawn after somebody has used it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_a_browser = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here")
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --allow-file-access-from-files --hide-scrollbars"
)


def drawn(page: str, folder: Path, use: str = "", width: int = 1000, dark: bool = False) -> str:
    """The page's body as HTML after `use`, a script, has run in it, on a screen of `width` px.

    What the script leaves in `document.title` comes back in front of it, as errors of the page's own scripts do.
    """
    assert CHROMIUM
    catch = "<script>window.onerror = (message) => { document.title = `error: ${message}`; };</script>"
    script = f"<script>addEventListener('load', () => setTimeout(() => {{ {use} }}, 500));</script>"
    page = page.replace("<body>", f"<body>{catch}", 1).replace("</body>", f"{script}</body>")
    (folder / "page.html").write_text(page)
    scheme = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run(
        [CHROMIUM, *QUIET.split(), *scheme, f"--window-size={width},900", f"--user-data-dir={folder}/profile",
         "--virtual-time-budget=4000", "--dump-dom", f"file://{folder}/page.html"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    title = done.stdout.split("<title>")[1].split("</title>")[0]
    assert not title.startswith("error: "), title
    return f"{title}\n" + done.stdout.split("<body>")[1].split('<script type="application/json"')[0]
