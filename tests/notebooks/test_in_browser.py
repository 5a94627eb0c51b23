"""The notebooks and the report in a real browser: JupyterLab and headless Chromium.

Needs jupyterlab and playwright (`pip install slimlib[browser]`) and a Chromium of the system; where
one of them is not there, the tests skip and say which. SLIMLIB_SCREENSHOTS=FOLDER keeps what the
pages looked like.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from lm_eval_files import FLEXIBLE, gsm8k_rows, run_folder
from places import CHECKOUT

pytestmark = pytest.mark.slow

WIDTHS = (1280, 600)
HOSTILE = "<script>window.hacked = 1</script> costs $5 and $6, \\(x^2\\) \\[y\\]"
SETTINGS = {  # all cells are in the page, and no news is fetched
    "notebook-extension/tracker": {"windowingMode": "none", "recordTiming": False},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
MINUTE = 60_000  # milliseconds


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium, or a skip that says what is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory, smoke):
    """JupyterLab over a folder with copies of the notebooks: (address, folder, its log)."""
    widgets = pytest.importorskip("jupyterlab_widgets", reason="ipywidgets is not installed")
    pytest.importorskip("jupyterlab", reason="jupyterlab is not installed")
    folder = tmp_path_factory.mktemp("lab")
    _, run = smoke
    copies(folder)
    settings = folder / "settings"
    for name, values in SETTINGS.items():
        path = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    environment = os.environ | {
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_PATH": str(Path(widgets.__file__).parents[4] / "share" / "jupyter"),
        "PYTHONPATH": str(CHECKOUT),
        "SLIMLIB_RUNS": str(run.parent),
        "CUDA_VISIBLE_DEVICES": "",
    }
    environment.pop("MPLBACKEND", None)  # a notebook's kernel has one of its own
    options = {
        "ServerApp.ip": "127.0.0.1", "ServerApp.port": port, "IdentityProvider.token": "t",
        "ServerApp.root_dir": folder, "ServerApp.open_browser": False,
        "ServerApp.allow_root": True, "LabApp.expose_app_in_browser": True,
    }  # fmt: skip
    command = [sys.executable, "-m", "jupyterlab", *(f"--{k}={v}" for k, v in options.items())]
    log = folder / "lab.log"
    with open(log, "w") as stream:
        server = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
    try:
        wait_for(f"http://127.0.0.1:{port}/api?token=t", server, log)
        yield f"http://127.0.0.1:{port}", folder, log
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()


def copies(folder):
    """Notebooks as they are, but for steps; and one whose models answer in markup."""
    for path in (CHECKOUT / "notebooks").glob("0[0-9]_*.ipynb"):
        text = path.read_text("utf-8")
        text = text.replace("OVERRIDES = {}", 'OVERRIDES = {\\"train.max_steps\\": 20}')
        (folder / path.name).write_text(text, "utf-8")
    for name, scores in (("base", FLEXIBLE), ("tuned", [1 - score for score in FLEXIBLE])):
        rows = gsm8k_rows()
        for row in rows:
            row["doc"]["question"] = row["resps"][0][0] = f"{name} {HOSTILE}"
            row["exact_match"] = float(scores[row["doc_id"]])
        results = {"gsm8k": {"exact_match,strict-match": sum(scores) / 4}}
        results["gsm8k"]["exact_match,flexible-extract"] = sum(scores) / 4
        run_folder(folder / name, rows, results=results)
    source = 'import slimlib\nslimlib.explore_answers({"mine": ("base", "tuned")})'
    cell = {"cell_type": "code", "execution_count": None, "id": "0", "metadata": {}, "outputs": []}
    book = {"cells": [cell | {"source": source}], "metadata": {}, "nbformat": 4}
    book["metadata"]["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    (folder / "hostile.ipynb").write_text(json.dumps(book | {"nbformat_minor": 5}))


def wait_for(address, server, log):
    for _ in range(600):  # five minutes, on a busy machine
        if server.poll() is not None:
            break
        try:
            return urllib.request.urlopen(address, timeout=5)
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])


class Page:
    """One notebook in JupyterLab, and what its console said."""

    def __init__(self, browser, lab, name, width=1280):
        self.address, self.folder, self.log = lab
        self.said = []
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.page.set_default_timeout(5 * MINUTE)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("console", self._console)
        self.name = name
        self.page.goto(f"{self.address}/doc/tree/{name}.ipynb?token=t&reset")
        self.page.wait_for_function(
            "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status"
            " === 'idle'"
        )

    def _console(self, message):
        if message.type == "error":
            self.said.append(f"{message.text} {message.location.get('url', '')}")

    def run_all(self, minutes):
        """Run all cells to the end; fail at the first error of one."""
        self.page.evaluate(
            "() => { window.ran = 'no'; jupyterapp.commands.execute('notebook:run-all-cells')"
            ".then(() => { window.ran = 'yes' }) }"
        )
        self.page.wait_for_function("window.ran === 'yes'", timeout=minutes * MINUTE)
        errors = self.page.locator("[data-mime-type='application/vnd.jupyter.stderr']")
        shown = [text for text in errors.all_inner_texts() if "Traceback" in text]
        assert not shown, shown[0][-2000:]

    def cell(self, text):
        """The code cell whose source has a text."""
        return self.page.locator(".jp-CodeCell", has=self.page.get_by_text(text)).last

    def see(self, what, target=None):
        """Keep a picture, where pictures are kept."""
        folder = os.environ.get("SLIMLIB_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            path = Path(folder) / f"{self.name}-{what}.png"
            (target or self.page).screenshot(path=path)

    def end(self):
        """No error in the console, none in the server's log."""
        self.page.wait_for_timeout(500)
        self.page.close()
        assert [text for text in self.said if not harmless(text)] == []
        said = [line for line in self.log.read_text().splitlines() if re.match(r"\[[EC] ", line)]
        assert said == []


def harmless(text):
    """What JupyterLab itself says of what it does not find."""
    return "Failed to load resource" in text and "/api/" in text and "slimlib" not in text


def choose(cell, name, label):
    """Choose from the menu of a name, and wait until the output is another one."""
    before = shown(cell)
    menu = cell.locator(".widget-dropdown", has_text=re.compile(f"^{name}"))
    menu.locator("select").select_option(label=label)
    return changed(cell, before)


def slide(cell, name, times=1):
    """Move a slider to the right by its keys."""
    before = shown(cell)
    handle = cell.locator(".widget-slider", has_text=re.compile(f"^{name}"))
    handle.locator(".noUi-handle").focus()
    for _ in range(times):
        cell.page.keyboard.press("ArrowRight")
    return changed(cell, before)


def shown(cell):
    """What the cell shows below its controls: text and pictures."""
    return cell.locator(".jp-OutputArea-output:not(:has(.jupyter-widgets))").evaluate_all(
        "all => all.map(one => one.innerText + [...one.querySelectorAll('img')].map(i => i.src))"
        ".join('\\n')"
    )


def changed(cell, before):
    for _ in range(240):
        if (now := shown(cell)) not in (before, ""):
            return now
        cell.page.wait_for_timeout(250)
    raise AssertionError(f"the output stayed as it was: {before[:500]}")


def fits(cell):
    """Nothing of the outputs is cut off at the right."""
    assert cell.locator(".jp-OutputArea-output").evaluate_all(
        "all => all.every(one => one.scrollWidth <= one.clientWidth + 1)"
    )


# ------------------------------------------------------------------------------------ what is seen


@pytest.mark.parametrize("width", WIDTHS)
def test_05_shows_lost_answers_and_the_ladder_as_chosen(chromium, lab, width):
    page = Page(chromium, lab, "05_analysis", width)
    page.run_all(minutes=6)
    answers = page.cell("explore_answers(")
    assert "right -> wrong" in shown(answers) or "wrong -> right" in shown(answers)
    page.see(f"{width}-answers", answers)
    assert "right -> wrong:" not in choose(answers, "change", "wrong -> right")
    choose(answers, "change", "both")
    tasks = answers.locator(".widget-dropdown", has_text=re.compile("^task")).locator("option")
    choose(answers, "task", tasks.all_inner_texts()[-1])
    page.see(f"{width}-answers-chosen", answers)
    fits(answers)
    ladder = page.cell("explore_ladder(")
    assert "data:image/png" in shown(ladder)
    page.see(f"{width}-ladder", ladder)
    assert "All steps together" in choose(ladder, "view", "steps in words")
    page.see(f"{width}-ladder-words", ladder)
    page.end()


@pytest.mark.parametrize("width", WIDTHS)
def test_06_shows_what_a_step_lost_and_its_report_fits(chromium, lab, width, smoke):
    page = Page(chromium, lab, "06_my_model", width)
    page.run_all(minutes=10)
    learned = page.cell("explore_learned(")
    assert "data:image/png" in shown(learned)
    page.see(f"{width}-learned", learned)
    steps = learned.locator(".widget-dropdown", has_text=re.compile("^step")).locator("option")
    choose(learned, "step", steps.all_inner_texts()[1])
    page.see(f"{width}-learned-step", learned)
    page.end()
    (report,) = smoke[1].parent.glob("*-on-*/report.html")
    look_at(chromium, report, width)


def look_at(chromium, report, width):
    """The report opens from the disk, fits the width, and says nothing to the console."""
    said = []
    page = chromium.new_page(viewport={"width": width, "height": 900})
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg").count() == 1
    if folder := os.environ.get("SLIMLIB_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"report-{width}.png", full_page=True)
    page.close()
    assert said == []


def test_00_moves_with_a_slider(chromium, lab):
    if not list((CHECKOUT / "notebooks").glob("00_*.ipynb")):
        pytest.skip("there is no notebook 00")
    (path,) = (CHECKOUT / "notebooks").glob("00_*.ipynb")
    for width in WIDTHS:
        page = Page(chromium, lab, path.stem, width)
        page.run_all(minutes=6)
        cells = page.page.locator(".jp-CodeCell", has=page.page.locator(".widget-slider"))
        for number in range(cells.count()):
            cell = cells.nth(number)
            name = cell.locator(".widget-slider .widget-label").first.inner_text()
            slide(cell, name)
            page.see(f"{width}-slider-{number}", cell)
            fits(cell)
        assert cells.count()
        page.end()


def test_answers_in_markup_and_formulas_are_shown_as_text(chromium, lab):
    page = Page(chromium, lab, "hostile")
    page.run_all(minutes=2)
    cell = page.cell("explore_answers(")
    text = shown(cell)
    for side in ("base", "tuned"):
        assert f"{side} {HOSTILE}" in text
    assert page.page.evaluate("window.hacked") is None
    assert cell.locator("mjx-container, .MathJax, script").count() == 0
    page.see("markup", cell)
    field = cell.locator(".widget-text", has_text=re.compile("^text")).locator("input")
    field.fill("<script>none</script> $x$")
    field.press("Enter")
    assert "<script>none</script> $x$" in changed(cell, text)
    assert cell.locator("mjx-container, .MathJax, script").count() == 0
    page.end()


def test_the_page_slider_turns_the_page(chromium, lab):
    """Eleven documents: one on the second page."""
    _, folder, _ = lab
    for name, score in (("base", 1.0), ("tuned", 0.0)):
        rows = [row | {"doc_id": i, "doc_hash": f"d{i}", "prompt_hash": f"p{i}",
                       "exact_match": score, "doc": {"question": f"question {i}"}}
                for i in range(11) for row in gsm8k_rows()[-1:]]  # fmt: skip
        results = {"gsm8k": {"exact_match,flexible-extract": score}}
        counts = {"gsm8k": {"original": 11, "effective": 11}}
        shutil.rmtree(folder / name)
        run_folder(folder / name, rows, results=results, **{"n-samples": counts})
    page = Page(chromium, lab, "hostile")
    page.run_all(minutes=2)
    cell = page.cell("explore_answers(")
    assert "question 9" in shown(cell) and "question 10" not in shown(cell)
    turned = slide(cell, "page")
    assert "question 10" in turned and "question 9" not in turned
    page.see("second-page", cell)
    page.end()
