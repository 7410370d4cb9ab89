"""Draw docs/images/report.png: the head of a target's report, as a browser shows it.

It runs the demo on synthetic speech, opens the report in headless Chromium at 1280 pixels and keeps its top without the
margins, in 128 colors. ``--report`` takes a report that is there already. No real speech may be in it.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "report.png"
WIDTH, HEIGHT, MARGIN, COLORS = 1280, 1035, 140, 128
MAX_BYTES = 150_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path, help="a report of the demo; without it the demo is run")
    parser.add_argument("--top", type=int, default=HEIGHT, help="how many pixels of the page are kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = arguments.report or run_demo(Path(folder))
        cut(photograph(report.resolve(), Path(folder)), arguments.top)


def run_demo(folder: Path) -> Path:
    """Both sites on synthetic speech; returns the report."""
    subprocess.run([sys.executable, "-m", "benchmarks.demo", "--out", str(folder / "demo")], check=True, cwd=ROOT)
    return folder / "demo" / "adapted" / "report.html"


def photograph(report: Path, folder: Path) -> Path:
    """The page in a browser that has no window."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("error: there is no Chromium; install the package `chromium`")
    picture = folder / "page.png"
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
    size, out = f"--window-size={WIDTH},{2 * HEIGHT}", f"--screenshot={picture}"
    subprocess.run([browser, *options, size, out, report.as_uri()], check=True, capture_output=True)
    return picture


def cut(picture: Path, top: int) -> None:
    """The top of the page without its margins, in few colors; refused where it is too large for a repository."""
    with Image.open(picture) as page:
        page.convert("RGB").crop((MARGIN, 0, WIDTH - MARGIN, top)).quantize(COLORS).save(PICTURE, optimize=True)
    if PICTURE.stat().st_size > MAX_BYTES:
        sys.exit(f"error: {PICTURE.name} has more than {MAX_BYTES} bytes; cut more off with --top")


if __name__ == "__main__":
    main()
