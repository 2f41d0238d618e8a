import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from stillhouse.reporting import figures, page, published, study, tables
from stillhouse.reporting.study import Layout

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)

needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome")


@pytest.fixture(scope="module")
def html(layout: Layout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the hand-made study, which no test changes."""
    report = tmp_path_factory.mktemp("report")
    save_part(layout, report)
    page.write([report / "parts" / "tiny.json"], report / "index.html", report / "metrics.json")
    return report / "index.html"


def save_part(layout: Layout, report: Path) -> None:
    """What the study's notebook does for the page."""
    rows = study.scores(layout)
    tidy = study.tidy(layout, rows)
    figures.save(figures.accuracy(layout, tidy), report / "figures" / "accuracy.png")
    shown = [page.Image("figures/accuracy.png", "Accuracy <against> size & more.")]
    notes = study.findings(tidy, study.exactness(rows))
    lines = tables.rows(layout, tidy)
    table = tables.scores(layout, lines)
    part = page.part(layout, published.citation(layout.published), notes, [table], shown, study.recipes(rows))
    page.save(part, report / "parts" / f"{layout.name}.json")


@dataclass
class Read(HTMLParser):
    """A page's ids, addresses, cells and styles."""

    ids: list[str] = field(default_factory=list)
    addresses: list[tuple[str, str]] = field(default_factory=list)  # (tag, address)
    cells: list[str] = field(default_factory=list)
    linked: list[str] = field(default_factory=list)  # addresses of links inside cells
    open: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.append(tag)
        if tag == "td":
            self.cells.append("")
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "srcset", "action", "data", "poster", "background"):
                self.addresses.append((tag, value or ""))
                if "td" in self.open and tag == "a":
                    self.linked.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, text: str) -> None:
        if "td" in self.open:
            self.cells[-1] += text


def read(path: Path) -> Read:
    parser = Read()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def browse(path: Path, profile: Path, *options: str) -> tuple[str, str]:
    """The page after its scripts have run, and what the browser logged."""
    assert BROWSER is not None
    quiet = ["no-first-run", "disable-background-networking", "disable-component-update", "disable-sync", "disable-gpu"]
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", *(f"--{each}" for each in quiet), f"--user-data-dir={profile}",
         "--enable-logging=stderr", "--v=0", "--virtual-time-budget=2000", *options, "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def test_the_page_needs_no_other_file(html: Path) -> None:
    addresses = read(html).addresses
    assert ("img", "data:image/png;base64,") in [(tag, address[:22]) for tag, address in addresses]
    assert all(address.startswith(("#", "data:")) for _, address in addresses)
    text = html.read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|import\(|WebSocket", text)
    assert not {"iframe", "object", "embed", "base"} & set(read(html).tags)


def test_every_number_leads_to_a_recipe_that_is_there(html: Path) -> None:
    content = read(html)
    assert len(content.linked) == 10
    for address in content.linked:
        assert address.removeprefix("#") in content.ids
        assert address.startswith("#r-")


def test_what_made_a_set_stands_once_and_its_numbers_lead_there(html: Path) -> None:
    text = html.read_text(encoding="utf-8")
    led = re.findall(r'Made by <a href="#(s-[^"]+)">', text)
    assert set(led) == set(re.findall(r'<details id="(s-[^"]+)"', text))
    assert len(led) == text.count('"judged_by_source"') > len(set(led))  # a set has several numbers


def test_ids_stand_once(html: Path) -> None:
    ids = read(html).ids
    assert len(ids) == len(set(ids)) > 10


def test_the_table_holds_every_number(html: Path) -> None:
    cells = [" ".join(cell.split()) for cell in read(html).cells]
    assert cells[:8] == ["all", "86.20 ± 0.28", "86.41", "−0.21", "1", "86.20 ± 0.28", "86.41", "−0.21"]
    for number in ("32.00 ± 2.83", "65.50 ± 7.07", "93.00 ± 1.41", "80.50 ± 0.71"):
        assert number in cells


def test_what_stands_in_labels_is_text_and_not_html(layout: Layout, tmp_path: Path) -> None:
    labels = {**layout.labels, "exact": "<script>alert(1)</script>"}
    save_part(replace(layout, title="A & B <i>", labels=labels), tmp_path)
    page.write([tmp_path / "parts" / "tiny.json"], tmp_path / "index.html", tmp_path / "metrics.json")
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "A &amp; B &lt;i&gt;" in text
    assert read(tmp_path / "index.html").tags.count("script") == 1


def test_the_same_study_gives_the_same_page(html: Path, layout: Layout, tmp_path: Path) -> None:
    save_part(layout, tmp_path)
    page.write([tmp_path / "parts" / "tiny.json"], tmp_path / "index.html", tmp_path / "metrics.json")
    assert (tmp_path / "index.html").read_bytes() == html.read_bytes()


def test_tables_of_other_kinds_stand_on_the_page_too(layout: Layout, tmp_path: Path) -> None:
    columns = [tables.Column("claim", words=True), tables.Column("error"), tables.Column("test", words=True)]
    entries = [
        tables.Entry("4 < 5"),
        tables.Entry("1e-15", value=1e-15),
        tables.Entry("test_points.py", link="tests/x"),
    ]
    claims = tables.Table(
        "claims", "What is claimed", "group", columns, [tables.Line("ridge", entries, name="4.1")], ["So."]
    )
    page.save(page.part(layout, "", [], [claims], [], {}), tmp_path / "part.json")
    page.write([tmp_path / "part.json"], tmp_path / "index.html", tmp_path / "metrics.json")
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "4 &lt; 5" in text
    assert "<code>test_points.py</code>" in text
    assert "<p>So.</p>" in text
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"tiny": {"4.1": {"error": 1e-15}}}


def test_the_numbers_alone_are_json(html: Path) -> None:
    numbers = json.loads(html.with_name("metrics.json").read_text())
    assert numbers["tiny"]["mnist all all real images"] == {"Linear": 86.2}
    assert numbers["tiny"]["digits 10 random real images"] == {"Linear": 80.5}
    assert len(numbers["tiny"]) == 10


def two_studies(folder: Path, layout: Layout, second: Layout) -> Path:
    for each in (layout, second):
        save_part(each, folder)
    parts = [folder / "parts" / f"{each.name}.json" for each in (layout, second)]
    page.write(parts, folder / "index.html", folder / "metrics.json")
    return folder / "index.html"


def test_several_studies_stand_on_one_page_and_are_reached_from_its_top(layout: Layout, tmp_path: Path) -> None:
    both = two_studies(tmp_path, layout, replace(layout, name="second", title="Another", seeds=[0]))
    content = read(both)
    assert {"tiny", "second"} <= set(content.ids)
    assert {"#tiny", "#second"} <= {address for _, address in content.addresses}
    assert len(content.linked) == 20
    assert json.loads(both.with_name("metrics.json").read_text()).keys() == {"tiny", "second"}


def test_ids_stand_once_where_two_studies_share_a_number(layout: Layout, tmp_path: Path) -> None:
    ids = read(two_studies(tmp_path, layout, replace(layout, name="second", title="Another"))).ids
    assert len(ids) == len(set(ids))


def palettes(html: Path) -> list[dict[str, str]]:
    """The named colours by day and by night."""
    text = html.read_text(encoding="utf-8")
    light, dark = re.split(r"@media \(prefers-color-scheme: dark\) \{", text, maxsplit=1)
    found = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", part.split("</style>")[0])) for part in (light, dark)]
    assert found[0].keys() == found[1].keys() >= {"paper", "ink", "soft", "accent"}
    return found


def luminance(colour: str) -> float:
    """WCAG's relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_there_is_a_light_and_a_dark_page(html: Path) -> None:
    light, dark = palettes(html)
    assert luminance(light["paper"]) > luminance(light["ink"])
    assert luminance(dark["paper"]) < luminance(dark["ink"])
    assert "color-scheme: light dark" in html.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["ink", "soft", "accent"])
@pytest.mark.parametrize("ground", ["paper", "card", "band"])
def test_text_can_be_read_by_day_and_by_night(html: Path, text: str, ground: str) -> None:
    for palette in palettes(html):
        bright, dim = sorted([luminance(palette[text]), luminance(palette[ground])], reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.3


def test_the_page_can_be_read_aloud(html: Path) -> None:
    text = html.read_text(encoding="utf-8")
    assert '<html lang="en">' in text
    assert 'alt="Accuracy &lt;against&gt; size &amp; more."' in text
    assert 'name="viewport"' in text


@needs_browser
def test_a_browser_shows_the_numbers_and_reports_no_error(html: Path, tmp_path: Path) -> None:
    shown, errors = browse(html, tmp_path / "profile")
    assert "86.20" in shown
    assert "65.50" in shown
    assert errors == ""
    broken = tmp_path / "broken.html"
    broken.write_text(html.read_text(encoding="utf-8").replace("</body>", "<script>nothing.there()</script></body>"))
    assert "nothing is not defined" in browse(broken, tmp_path / "profile")[1]  # such an error would have been seen


@needs_browser
def test_a_link_to_a_recipe_unfolds_it(html: Path, tmp_path: Path) -> None:
    target = read(html).linked[0].removeprefix("#")
    probe = (
        f'<script>document.body.dataset.shown = document.getElementById("{target}").checkVisibility()</script></body>'
    )
    copies = {}
    for name, address in (("plain", ""), ("linked", f'<script>location.hash = "{target}"</script>')):
        copies[name] = tmp_path / f"{name}.html"
        text = html.read_text(encoding="utf-8").replace("<body>", f"<body>{address}")
        copies[name].write_text(text.replace("</body>", probe), encoding="utf-8")
    shown = {name: browse(path, tmp_path / "profile")[0] for name, path in copies.items()}
    opened = {name: re.search(rf'<details id="{target}"( open="")?>', text) for name, text in shown.items()}
    assert opened["plain"] is not None
    assert opened["plain"][1] is None
    assert opened["linked"] is not None
    assert opened["linked"][1]


@needs_browser
def test_at_the_width_of_a_phone_nothing_overflows(html: Path, tmp_path: Path) -> None:
    """Headless windows have a least width above a phone's; a frame has none."""
    tell = "<script>addEventListener('load', () => parent.postMessage([innerWidth, document.documentElement.scrollWidth], '*'))"
    wide = "<div style='width: 700px'>wide</div>"
    text = html.read_text(encoding="utf-8")
    for name, more in (("fits", ""), ("wide", wide)):
        (tmp_path / f"{name}.html").write_text(
            text.replace("</body>", f"{more}{tell}</script></body>"), encoding="utf-8"
        )
    outer = tmp_path / "outer.html"
    widths = {}
    for name in ("fits", "wide"):
        outer.write_text(
            "<!doctype html><body><script>addEventListener('message', e => document.body.dataset.widths = e.data)</script>"
            f"<iframe src='{name}.html' style='width: 390px; height: 800px; border: 0'></iframe>"
        )
        shown, _ = browse(outer, tmp_path / "profile", "--window-size=900,900")
        found = re.search(r'data-widths="(\d+),(\d+)"', shown)
        assert found, shown[:500]
        widths[name] = (int(found[1]), int(found[2]))
    assert widths["fits"][0] == 390
    assert widths["fits"][1] <= 390  # less by a scroll bar
    assert widths["wide"][1] >= 700  # an overflow would have been seen
