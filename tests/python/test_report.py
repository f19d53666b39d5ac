"""mdlm-analysis report: what the page says, that it fetches nothing and runs nothing of what the files hold; in a browser:
phone and desktop, light, dark and print, sorting."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import browser as chromium
import h5py
import numpy as np
import pytest
from conftest import Call, run_command
from weights import mdlm

import mdlm_h5
from mdlm_analysis import cli, report_profile
from mdlm_analysis.report_page import visible

DECK = """
run: { dir = "first"; };
data: { train = "train.h5"; valid = "valid.h5"; };
model: { width = 16; blocks = 1; heads = 2; cond_dim = 8; };
train: { steps = 8; global_batch = 4; micro_batch = 2; warmup = 2; log_every = 1; valid_every = 4; save_every = 4; };
eval: { draws = 2; };
sample: { count = 3; batch = 3; steps = 4; };
device: { threads = 1; };
"""
HOSTILE = '<script>alert("a")</script><img src="http://example.org/a.png"> & \x1b[2J \u202eabc'
UNQUOTED = HOSTILE.replace('"', "")
NAME = 'second <b> & "$x$"'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs and their report: one with evaluation and samples, one with hostile names and texts."""
    at = tmp_path_factory.mktemp("report")
    (at / "text").write_text("".join(f"the words of line {i} follow {i % 7} others\n" for i in range(120)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(at)
        names = ("--out-train", "train.h5", "--out-valid", "valid.h5")
        line = ("text", "--tokenizer", "bpe:280", "--length", 16, "--valid-documents", 20, "--quiet", *names)
        run_command("mdlm_data.prepare", *line).check_returncode()
        (at / "deck.cfg").write_text(DECK)
        mdlm("train", "deck.cfg", "train.sample_every=2")
        mdlm("train", "deck.cfg", "run.dir=b", "model.name=ar", "diffusion.objective=ar", "train.lr=0.01")
        for run, more in (("first", ()), ("b", ("model.name=ar", "diffusion.objective=ar"))):
            mdlm("eval", "deck.cfg", f"run.dir={run}", *more)
            mdlm("profile", "deck.cfg", f"run.dir={run}", *more)
        mdlm("sample", "deck.cfg")
        mdlm("score", "deck.cfg", "score.checkpoint=b/last.h5", "score.batch=3")
        shutil.copy("first/samples.h5", "b/samples.h5")
        (at / "b").rename(at / NAME)
        spoil(at / NAME)
        report(at / "first", at / NAME, "-o", at / "report.html")
        report(at / "first")
    return at


def spoil(run: Path) -> None:
    """Texts that are not to be believed, a damaged file, and steps of two ranks of which one is late."""
    with h5py.File(run / "samples.h5", "a") as f:
        f["text"][0] = HOSTILE
    with h5py.File(run / "metrics.h5", "a") as f:
        f.attrs["deck"] = f.attrs["deck"].replace('resume = "auto"', f'resume = "{UNQUOTED}"')
        f["train/slowest_rank"][...] = [0, 1, 1, 1, 1, 1, 1, 1]
        f["train/step_slowest"][...] = 1.5 * f["train/step_median"][...]
    (run / "damaged.h5").write_bytes((run / "samples.h5").read_bytes()[:3000])


def report(*arguments: object) -> None:
    assert cli.analyse(["report", *map(str, arguments)]) == 0


class Page(HTMLParser):
    """Tags with their attributes, the text, and the cells of each table by its caption."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.words = self.caption = ""
        self.cell: list[str] | None = None
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        self.cell = [] if tag in ("caption", "th", "td") else self.cell
        if tag == "tr":
            self.tables[self.caption].append([])

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td"):
            self.tables[self.caption][-1].append("".join(self.cell or []))
        elif tag == "caption":
            self.caption = "".join(self.cell or [])
            self.tables[self.caption] = []

    def handle_data(self, data: str) -> None:
        self.words += data
        if self.cell is not None:
            self.cell.append(data)

    def column(self, table: str, name: str) -> list[str]:
        head, *rows = self.tables[table]
        return [row[head.index(name)] for row in rows]


@pytest.fixture(scope="module")
def both(made: Path) -> Page:
    return Page(made / "report.html")


# ---- what it says


def test_results_are_those_of_the_files(made: Path, both: Page) -> None:
    runs = [made / "first", made / NAME]
    found = [mdlm_h5.evaluation(run / "eval.h5") for run in runs]
    assert both.column("Runs", "run") == ["first", NAME]
    assert both.column("Runs", "perplexity") == [f"{e.ppl:.4g}" for e in found]
    assert both.column("Evaluations", "ci95 low") == [f"{e.interval[0]:.5g}" for e in found]
    best = [f"{mdlm_h5.metrics(run).valid['ppl'].values.min():.4g}" for run in runs]
    assert both.column("Runs", "lowest validation") == best
    assert both.column("Validations during training", "step") == ["4", "8"] * 2
    assert sorted(both.column("Checkpoints", "file")) == ["best.h5"] * 2 + ["last.h5"] * 2 + ["previous.h5"] * 2


def test_error_of_the_masks(made: Path, both: Page) -> None:
    with h5py.File(made / "first" / "eval.h5") as f:
        one = float(np.sqrt(f["square"][...].sum() / 2) / f["tokens"][...].sum())
    assert both.column("Evaluations", "error of the masks [nat/token]") == [f"{one:.2g}", "0"]  # ar is exact


def test_configuration_shows_what_differs(both: Page) -> None:
    assert both.tables["What differs"] == [
        ["key", "first", NAME],
        ["run.resume", "auto", visible(UNQUOTED)],
        ["model.name", "dit", "ar"],
        ["diffusion.objective", "subs", "ar"],
        ["train.lr", "0.0003", "0.01"],
        ["train.sample_every", "2", "0"],
    ]
    assert ["train.steps", "8", "8"] in both.tables["All keys"]


def test_data_protocol(made: Path, both: Page) -> None:
    data = mdlm_h5.data(made / "train.h5")
    rows = {row[0]: row[1:] for row in both.tables["Data"]}
    assert rows["fact"] == ["training", "validation", "eval.h5"]
    assert rows["digest"] == [data.attributes["digest"], *[mdlm_h5.data(made / "valid.h5").attributes["digest"]] * 2]
    assert rows["rows"][0] == str(data.shape[0]) and rows["framing"][0] == data.attributes["framing"]


def test_stragglers(both: Page) -> None:
    assert both.tables["Stragglers"][1:] == [[NAME, "0", "12.5", "50.0", "50.0"], [NAME, "1", "87.5", "50.0", "50.0"]]


def test_profile(made: Path, both: Page) -> None:
    with h5py.File(made / "first" / "profile.h5") as f, h5py.File(made / NAME / "profile.h5") as g:
        assert both.column("Profile", "calibration error") == [f"{h.attrs['ece']:.4f}" for h in (f, g)]
        assert both.column("Profile", "accuracy") == [f"{h.attrs['accuracy']:.4f}" for h in (f, g)]
        nll = [*f["position/nll"], *g["position/nll"]]
        assert both.column("Position in the sequence", "−log p [nat]") == [f"{x:.4f}" if x == x else "–" for x in nll]
        assert set(both.column("Share of masked tokens", "run")) == {"first"}  # ar masks nothing


def test_profiles_of_one_run(made: Path, tmp_path: Path) -> None:
    shutil.copy(made / "first" / "metrics.h5", tmp_path)
    for name, source in (("one", "first"), ("two", NAME)):
        shutil.copy(made / source / "profile.h5", tmp_path / f"{name}.h5")
    report(tmp_path, "-o", tmp_path / "x.html")
    page = Page(tmp_path / "x.html")
    assert page.column("Profile", "run") == [f"{tmp_path.name}, {name}" for name in ("one", "two")]
    assert set(page.column("Share of masked tokens", "run")) == {f"{tmp_path.name}, one"}  # ar masks nothing


def test_diverged_run(made: Path, tmp_path: Path) -> None:
    for name in ("metrics.h5", "last.h5", "eval.h5"):
        shutil.copy(made / "first" / name, tmp_path)
    for name in ("metrics.h5", "last.h5"):
        with h5py.File(tmp_path / name, "a") as f:
            at = f if name == "metrics.h5" else f["metrics"]
            at["train/loss"][...], at["train/ppl"][...], at["valid/nll"][...] = 1e14, np.inf, 1e10
            at["valid/ppl"][...] = at["valid/ppl_low"][...] = at["valid/ppl_high"][...] = np.inf
            f.attrs["valid_nll"] = 1e10
    with h5py.File(tmp_path / "eval.h5", "a") as f:
        f["loss"][...] = 1e12
        f.attrs.update(nll_low=1e9, nll_high=1e11)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report(tmp_path, "-o", tmp_path / "x.html")
    assert Page(tmp_path / "x.html").column("Checkpoints", "best validation so far [ppl]") == ["inf"]


@pytest.mark.parametrize("option", ["--smooth", "--unigram"])
@pytest.mark.parametrize("value", ["-3", "0", "nan", "inf", "x"])
def test_numbers_that_are_none(made: Path, analysis: Call, option: str, value: str) -> None:
    for command in ("report", "metrics"):
        assert option in analysis(command, made / "first", f"{option}={value}", fails=True)


def test_generative_perplexity(made: Path, both: Page) -> None:
    score = mdlm_h5.score(made / "first" / "score.h5")
    shown = [both.column("Generative perplexity", name) for name in ("perplexity", "ci95 low", "ci95 high")]
    assert shown == [[f"{x:.5g}"] for x in (score.ppl, *score.interval)]


def test_calibration_is_of_all_shares_together() -> None:
    tokens, accuracy = np.zeros((2, 10)), np.full((2, 10), np.nan)
    tokens[:, 3:5], accuracy[:, 3:5] = [[10, 0], [30, 20]], [[0.8, np.nan], [0.4, 0.5]]
    none, confidence = np.zeros(0), np.where(tokens > 0, 0.36, np.nan)
    x, y = report_profile.reliability(mdlm_h5.Calibration(none, none, tokens, accuracy, confidence, none))
    assert np.allclose(x, [0.36, 0.36]) and np.allclose(y, [(10 * 0.8 + 30 * 0.4) / 40, 0.5])


def test_samples_and_damaged_file(made: Path, both: Page) -> None:
    for text in mdlm_h5.samples(made / "first" / "samples.h5").text:
        assert visible(text) in both.words
    assert both.column("Files that could not be read", "file") == ["damaged.h5"]


def test_samples_during_training(made: Path, both: Page) -> None:
    drawn = mdlm_h5.metrics(made / "first").samples
    assert [d.step for d in drawn] == [2, 4, 6, 8] and "first: sample 1 during training" in both.words
    assert all(visible(text) in both.words for d in drawn for text in d.text)


def test_of_one_run(made: Path) -> None:
    page = Page(made / "first" / "report.html")
    assert "run" not in page.tables["Evaluations"][0] and ["model.width", "16"] in page.tables["Main keys"]
    assert f"{mdlm_h5.evaluation(made / 'first/eval.h5').ppl:.4g}" in page.words


def test_run_of_metrics_alone(made: Path, analysis: Call, tmp_path: Path) -> None:
    shutil.copy(made / "first" / "metrics.h5", tmp_path)
    assert analysis("report", tmp_path) == f"{tmp_path / 'report.html'}\n"
    page = Page(tmp_path / "report.html")
    assert len([tag for tag, _ in page.tags if tag == "figure"]) > 4 and "Evaluations" not in page.tables
    shutil.copy(made / "first" / "last.h5", tmp_path)
    analysis("report", tmp_path / "last.h5", "-o", tmp_path / "other.html", "--title", "a title")
    assert Page(tmp_path / "other.html").column("Checkpoints", "file") == ["last.h5"]


@pytest.mark.parametrize("what", ["nowhere", "garbage", "unwritable", "over its input", "over a deck"])
def test_bad_input(made: Path, analysis: Call, tmp_path: Path, what: str) -> None:
    run, out = made / "first", tmp_path / "out.html"
    if what == "nowhere":
        run = tmp_path / "nowhere"
    elif what == "garbage":
        run = tmp_path / "garbage"
        run.write_bytes(b"not HDF5" * 100)
    elif what == "unwritable":
        out = tmp_path / "no folder" / "out.html"
    elif what == "over a deck":
        out = tmp_path / "deck.cfg"
        out.write_text(DECK)
    else:
        shutil.copy(run / "metrics.h5", tmp_path)
        run = out = tmp_path / "metrics.h5"
    before = out.read_bytes() if out.is_file() else None
    assert analysis("report", run, "-o", out, fails=True)
    assert (out.read_bytes() if out.is_file() else None) == before


# ---- complete, and safe


@pytest.mark.parametrize("name", ["report.html", "first/report.html"])
def test_nothing_is_fetched_or_run(made: Path, name: str) -> None:
    page, text = Page(made / name), (made / name).read_text("utf-8")
    assert not {tag for tag, _ in page.tags} & {
        "img",
        "link",
        "iframe",
        "object",
        "embed",
        "audio",
        "video",
        "form",
        "b",
    }
    for tag, attributes in page.tags:
        for key, value in attributes.items():
            assert key not in ("src", "srcset", "action", "data") and not key.startswith("on"), tag
            assert "href" not in key or value.startswith("#"), value
    assert all(a.startswith("#") for a in re.findall(r"url\(([^)]*)", text)) and "@import" not in text
    assert sum(tag == "script" for tag, _ in page.tags) == 1 and not page.words.count("\x1b")


def test_identifiers_are_unique_and_found(made: Path) -> None:
    text = (made / "report.html").read_text("utf-8")
    names = [a["id"] for _, a in Page(made / "report.html").tags if "id" in a]
    assert len(set(names)) == len(names)
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)) and all(
        (one or two) in names for one, two in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)
    )


# ---- in a browser

PHONE, DESKTOP = 390, 1280


@pytest.fixture(scope="module")
def page() -> Iterator[chromium.Browser]:
    program = chromium.find()
    if not program:
        pytest.skip("no Chromium is installed")
    try:
        opened = chromium.Browser(program)
    except RuntimeError as e:
        pytest.skip(f"{program} does not start: {e}")
    yield opened
    opened.close()


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("name", ["report.html", "first/report.html"])
def test_page_fits_its_screen(made: Path, page: chromium.Browser, name: str, width: int) -> None:
    page.open(made / name, width)
    page.evaluate("document.querySelectorAll('details').forEach((it) => (it.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") == width == page.evaluate("innerWidth")
    outside = (
        "[...document.body.querySelectorAll(':not(.scroll *)')].filter((e) => e.getBoundingClientRect().right > {})"
    )
    assert page.evaluate(f"{outside.format(width)}.map((e) => e.outerHTML.slice(0, 80))") == []
    assert page.evaluate(
        "[...document.querySelectorAll('figure svg')].every((e) => e.clientWidth > 250 && e.clientHeight > 60)"
    )
    letters = "[...document.querySelectorAll('figure svg text')].map((e) => e.getBoundingClientRect().height)"
    assert page.evaluate(f"Math.min(...{letters})") >= 9
    if width == PHONE:  # wide tables scroll within
        assert page.evaluate("[...document.querySelectorAll('.scroll')].some((e) => e.scrollWidth > e.clientWidth)")
    assert page.requests == [(made / name).as_uri()] and page.errors == []


def test_tables_are_sorted_by_a_click(made: Path, page: chromium.Browser) -> None:
    page.open(made / "report.html", DESKTOP)
    table = "[...document.querySelectorAll('table')].find((t) => t.caption.textContent === '{}')"
    head = f"[...{table}.tHead.rows[0].cells].find((c) => c.textContent === '{{}}')"
    cells = f"[...{table}.tBodies[0].rows].map((r) => r.cells[{head}.cellIndex].textContent)"
    for name, column, key in (
        ("Evaluations", "perplexity", float),
        ("Checkpoints", "file", str),
        ("Checkpoints", "step", int),
    ):
        at = head.format(name, column)
        for order in ("ascending", "descending"):
            page.evaluate(f"{at}.querySelector('button').click()")
            found = [key(x) for x in page.evaluate(cells.format(name, name, column))]
            assert found == sorted(found, reverse=order == "descending") and len(set(found)) > 1
            assert page.evaluate(f"{at}.getAttribute('aria-sort')") == order
    assert page.evaluate("document.querySelectorAll('th[aria-sort]').length") == 2  # one in each table
    assert page.errors == []


def test_hostile_texts_are_shown_as_they_are(made: Path, page: chromium.Browser) -> None:
    page.open(made / "report.html", PHONE)
    shown = page.evaluate("[...document.querySelectorAll('.sample')].map((e) => e.textContent)")
    assert visible(HOSTILE) in shown and visible(HOSTILE).count("\ufffd") == 2
    assert page.evaluate("document.title") == f"first, {NAME}"
    assert page.evaluate(
        "[...document.querySelectorAll('svg text')].some((e) => e.textContent.includes('second <b> & \"$x$\"'))"
    )
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.ran = 1' }))"
    )
    assert page.evaluate("window.ran") is None  # the page's policy refuses it


def test_light_dark_and_print(made: Path, page: chromium.Browser, tmp_path: Path) -> None:
    colour = "getComputedStyle(document.querySelector('{}')).{}"
    seen = {}
    for dark in (False, True):
        page.open(made / "report.html", DESKTOP, dark=dark)
        spots = (("body", "backgroundColor"), ("body", "color"), ("figure svg text", "fill"))
        seen[dark] = [sum(map(int, re.findall(r"\d+", page.evaluate(colour.format(*s)))[:3])) for s in spots]
    assert seen[False][0] == 3 * 255 and seen[False][1] == seen[False][2] < 200
    assert seen[True][0] < 100 and seen[True][1] == seen[True][2] > 600
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.querySelectorAll('details[open]').length") == 0
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.evaluate(colour.format("body", "backgroundColor")) == "rgb(255, 255, 255)"
    page.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF") and page.errors == []
    if folder := os.environ.get("PICTURES"):  # for looking at
        keep(page, made, tmp_path / "report.pdf", Path(folder))


def keep(page: chromium.Browser, made: Path, pdf: Path, folder: Path) -> None:
    shutil.copy(pdf, folder)
    for name, width, dark in (("phone", PHONE, False), ("desktop", DESKTOP, False), ("dark", DESKTOP, True)):
        page.open(made / "report.html", width, dark=dark)
        page.picture(folder / f"{name}.png")
