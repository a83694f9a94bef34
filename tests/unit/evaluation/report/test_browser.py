"""The report in a real browser: nothing cut, nothing broken, nothing asked for, whatever a model wrote."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from evaluation.decision.decide import decide
from evaluation.gather import gather
from evaluation.report.write import write_report
from tests.unit.evaluation.report.chromium import Browser, find_chromium

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed, so no page can be rendered")

SECTIONS = [
    "study",
    "history",
    "decision",
    "general",
    "notes",
    "voc",
    "labels",
    "confusion",
    "examples",
    "data",
    "cost",
]
PRINT_WIDTH = 703  # A4 less the margins of the print style, in CSS pixels
# A section that is wider than its box is cut on paper and has to be scrolled on a screen.
TOO_WIDE = """
[document.documentElement, ...document.querySelectorAll('section, article, pre, table')]
  .filter(e => e.scrollWidth > e.clientWidth + 1 && e.tagName != 'TABLE'
            || e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map(e => `${e.tagName} ${e.id} ${e.textContent.trim().slice(0, 60)}`)
"""
EVIL = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "</pre></section></body><iframe src='https://example.com/'></iframe>"
    "<link rel=stylesheet href=//example.com/x.css><style>*{display:none}</style>"
    "{{ 7 * 7 }} {% raw %} \x00\x07\x1b[2J \u202etxet desrever \u2066 שלום עולם مرحبا \ud800 " + "W" * 5000
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


def _write(night) -> Path:
    gather(night.run)
    decide(night.run)
    write_report(night.run)
    return night.root / night.layout.report / "index.html"


@pytest.fixture(scope="module")
def page(fake_run_class, tmp_path_factory):
    """A report beside an earlier night whose rows cannot be compared."""
    root = tmp_path_factory.mktemp("store")
    gather(fake_run_class(root, "night-0").run)
    return _write(fake_run_class(root))


@pytest.fixture(scope="module")
def evil_page(fake_run_class, tmp_path_factory):
    """A report in which every text that a model or the data can set is hostile."""
    root = tmp_path_factory.mktemp("evil")
    page = _write(fake_run_class(root))
    night = fake_run_class(root, "night-2")
    gather(night.run)
    for model in ("base", "customer-only", "mix-75-25"):
        key = f"{night.layout.results(model)}/results.json"
        results = json.loads(night.store.read_bytes(key))
        for example in results["examples"]:
            example.update(kind=EVIL, custom_id=EVIL, question=EVIL, expected=EVIL, text=EVIL * 2000)
        for quote in results["general"]["decomposition"]["quotes"]:
            quote.update(kind=EVIL, subject=EVIL, question=EVIL, text=EVIL * 2000, base_text=EVIL)
        voc = results["voc"]
        voc["finish_reasons"] = {EVIL: 150}
        voc["failures"] = {EVIL: 1}
        for entry in voc["labels"]:
            entry.update(label=[EVIL] * 4, bucket="invented")
        for pair in voc["confusion"]["pairs"]:
            pair["predicted"] = pair["gold"] = [EVIL] * 4
        for entry in voc["emotion"]["emotions"]:
            entry["emotion"] = EVIL
        results["general"]["log_likelihood"]["slices"][EVIL] = results["general"]["log_likelihood"]["slices"][
            "replayed"
        ]
        results["general"]["generative_strict"]["slices"][EVIL] = results["general"]["log_likelihood"]["slices"][
            "replayed"
        ]
        night.store.write_bytes(key, json.dumps(results).encode())
    write_report(night.run)
    return page.parents[2] / "night-2" / "report" / "index.html"


def _sections(browser):
    return browser.ask("[...document.querySelectorAll('section')].filter(s => s.offsetHeight > 40).map(s => s.id)")


@pytest.mark.parametrize(("width", "media"), [(1280, ""), (800, ""), (PRINT_WIDTH, "print")])
def test_the_page_is_whole_and_nothing_is_cut(browser, page, width, media):
    browser.open(page, width, media=media)
    assert _sections(browser) == SECTIONS
    assert browser.ask(TOO_WIDE) == []
    assert browser.complaints() == []


def test_the_page_asks_for_itself_and_its_own_pictures_only(browser, page):
    browser.open(page, 1280)
    assert [url for url in browser.requests() if not url.startswith("data:image/png")] == [page.as_uri()]
    pictures = browser.ask("[...document.images].map(i => [i.complete, i.naturalWidth > 500, i.alt.length > 20])")
    assert pictures == [[True, True, True]] * 2


def test_every_link_of_the_navigation_leads_somewhere(browser, page):
    browser.open(page, 1280)
    ids = browser.ask("[...document.querySelectorAll('nav a')].map(a => a.hash.slice(1))")
    assert ids == [name for name in SECTIONS if name in ids]
    assert len(ids) == len(SECTIONS)


def test_the_screenshot_shows_a_page_and_the_print_has_pages(browser, page):
    browser.open(page, 1280)
    picture = Image.open(io.BytesIO(browser.take_screenshot())).convert("RGB")
    height = browser.ask("document.documentElement.scrollHeight")
    assert picture.width == 1280
    assert abs(picture.height - height) <= 1
    inked = [
        row
        for row in range(0, picture.height, 400)
        if len(picture.crop((0, row, 1280, row + 400)).getcolors(1 << 20)) > 20
    ]
    assert len(inked) >= picture.height // 400, "a part of the page is empty"
    pdf = browser.print_pdf()
    assert pdf.startswith(b"%PDF")
    assert 5 <= pdf.count(b"/Type /Page\n") <= 25


def test_the_checks_of_this_file_see_a_page_that_is_broken(browser, page, tmp_path):
    broken = tmp_path / "broken.html"
    head = page.read_text().replace("Content-Security-Policy", "X-Nothing")
    broken.write_text(
        head.replace("<section id=\"notes\">", "<section id=\"notes\"><pre style='white-space: pre'>" + "W" * 900 + "</pre>")
        .replace("</body>", "<img src='missing.png'><script>console.error('x'); throw 1</script></body>")
    )  # fmt: skip
    browser.open(broken, 1280)
    assert browser.ask(TOO_WIDE)
    assert len(browser.complaints()) >= 3
    assert any(url.endswith("missing.png") for url in browser.requests())


@pytest.mark.parametrize(("width", "media"), [(1280, ""), (800, ""), (PRINT_WIDTH, "print")])
def test_hostile_texts_run_nothing_ask_for_nothing_and_break_nothing(browser, evil_page, width, media):
    browser.open(evil_page, width, media=media)
    assert browser.ask("document.title") == "Nightforge: night-2"
    assert browser.ask("document.querySelectorAll('script, iframe, link, object, embed').length") == 0
    assert browser.ask("document.querySelectorAll('style').length") == 1
    assert [url for url in browser.requests() if not url.startswith(("data:image/png", "file:"))] == []
    assert browser.complaints() == []
    assert _sections(browser) == [name for name in SECTIONS if name != "decision"]
    assert browser.ask(TOO_WIDE) == []
    text = browser.ask("document.body.textContent")
    assert "{{ 7 * 7 }}" in text
    assert "\\u202etxet" in text
    assert not any(char in text for char in "\x00\x07\x1b\u202e\u2066")
    assert evil_page.stat().st_size < 2_000_000


def test_a_policy_stops_what_an_escape_would_miss(browser, page, tmp_path):
    slipped = tmp_path / "slipped.html"
    slipped.write_text(
        page.read_text().replace("</body>", "<script>document.title='owned'</script><img src='missing.png'></body>")
    )
    browser.open(slipped, 1280)
    assert browser.ask("document.title") == "Nightforge: night-1"
    assert browser.complaints()
