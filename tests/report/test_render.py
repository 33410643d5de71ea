"""The page as a file: complete, escaped, below its limit, and alive in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from weakseg.core.errors import StageError
from weakseg.evaluation.bootstrap import Interval
from weakseg.report import render
from weakseg.report.content import LabelChanges, Page, Role, Row, Scene
from weakseg.report.render import render_page, shade, shares

PHONE = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}


class Tags(HTMLParser):
    """Every tag with its attributes, and the text of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_all_is_inside(page: Page) -> None:
    html = render_page(page)
    tags = Tags(html).tags
    sources = [attrs["src"] or "" for tag, attrs in tags if tag == "img" and "src" in attrs]
    layers = [layer for scene in [*page.validation, *page.weak, *page.worst["pixel"]] for layer in scene.layers]
    assert len(layers) == 2 * 5 + 3 + 3
    assert page.tuning is not None
    assert len(sources) == len(layers) + len(page.tuning.pictures)
    assert all(source.startswith("data:image/") for source in sources)
    links = [attrs["href"] or "" for _, attrs in tags if "href" in attrs]
    assert all(link.startswith(("#", "data:")) for link in links)
    names = {attrs["id"] for tag, attrs in tags if tag == "section" and "id" in attrs}
    assert {link[1:] for link in links if link.startswith("#")} == names
    assert not re.findall(r"https?://|@import|url\(", html)


def test_what_tags_add_to_the_images_has_a_column(page: Page) -> None:
    assert "over untagged" not in render_page(page)
    rows = [replace(row, gain_by_tags=Interval(0.07, 0.02, 0.12)) if row.source == "cam" else row for row in page.rows]
    html = render_page(replace(page, rows=rows))
    assert "<th>over untagged</th>" in html
    assert html.count("<td>+0.070<small>+0.020 to +0.120</small></td>") == 1


def test_the_smaller_error_of_the_confidence_is_bold(page: Page) -> None:
    errors = {"pixel": (0.034, 0.04), "full": None, "cam": (0.16, 0.08)}
    rows = [replace(row, ece=errors[row.source]) for row in page.rows]
    html = render_page(replace(page, rows=rows))
    assert "<td><b>0.034</b></td><td>0.040</td>" in html
    assert "<td>0.160</td><td><b>0.080</b></td>" in html


def test_every_role_has_a_colour(page: Page) -> None:
    """Without one a row's interval is not drawn at all, and its dot is black."""
    html = render_page(page)
    for role in get_args(Role):
        found = re.search(rf"\.{role} {{ --role: var\((--[a-z]+)\)", html)
        assert found, role
        assert re.search(rf"{found[1]}: #[0-9a-f]{{6}};", html), role


def test_numbers_and_origin_are_there(page: Page) -> None:
    text = " ".join(Tags(render_page(page)).text.split())
    for said in ("Cam beats task (i) by +0.100 mIoU", "0.400", "50 %", "25 % to 75 %", "abc123", "f" * 32):
        assert said in text
    assert "1 of 3 tagged areas" in text
    for said in ("Study night: 2 complete, 1 pruned.", "0.350 untuned, 0.375 in trial 2", "0.3123"):
        assert said in text
    assert "75" in text  # 30 of 40 px of road in the confusion matrix


def test_what_is_missing_is_said(new_page: Callable[..., Page]) -> None:
    bare = new_page(tuning=None, costs=[], validation=[], weak=[], worst={}, curves=[], runs={}, audits=[])
    text = " ".join(Tags(render_page(bare)).text.split())
    for said in (
        "reports/label_cost.json",
        "reports/tuning/study.json",
        "run has no pseudo-masks",
        "run has no learning curves",
        "ids are not known",
    ):
        assert said in text
    assert text.count("The pictures of this run are not there") == 2


def test_prices_and_changes_of_labels_are_told(new_page: Callable[..., Page]) -> None:
    row = ("task (ii): joint", "0.500", "0.540", "+0.040", "+0.010 to +0.070")
    changes = LabelChanges("Labels from v1 (data aa) to now (data bb)", ("crops: 100 added",), (row,))
    text = " ".join(Tags(render_page(new_page(label_changes=changes))).text.split())
    for said in ("median of 812 answers of 2 annotators", "Labels from v1 (data aa) to now (data bb)", *row):
        assert said in text
    assert "crops: 100 added" in text
    assert "What changed in the labels" not in render_page(new_page())


def test_task_i_alone_is_a_page(new_page: Callable[..., Page], new_row: Callable[..., Row]) -> None:
    rows = [new_row("pixel", 0.4, miou_eroded=0.5, seeds=3, low=0.3, high=0.5)]
    html = render_page(new_page(rows=rows, confusions={"pixel": np.eye(2, dtype=np.int64)}))
    text = " ".join(Tags(html).text.split())
    assert "Only task (i) has been evaluated" in text
    assert "3 seeds, 0.300 to 0.500" in text
    assert 'class="gain"' not in html


def test_names_cannot_break_out(new_page: Callable[..., Page], new_scene: Callable[..., Scene]) -> None:
    evil = '"><script>alert(1)</script>'
    html = render_page(new_page(validation=[new_scene(evil, "truth", "pixel")], title=evil))
    assert "<script>alert" not in html
    assert next(attrs["data-name"] for _, attrs in Tags(html).tags if "data-name" in attrs) == evil


def test_too_large_a_page_is_refused(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "LIMIT", 20_000)
    with pytest.raises(StageError, match=r"a page of 0\.\d MB; expected below 0 MB"):
        render_page(page)


def test_shares_of_a_confusion_matrix() -> None:
    assert shares(np.array([[3, 1], [0, 0]])) == [[0.75, 0.25], [None, None]]
    assert shade(0.0) == "background:rgb(255,255,255);color:#16202a"
    assert shade(1.0) == "background:rgb(8,64,116);color:#fff"
    assert shade(None) == "background:#f3f4f6"


# ---- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(browser: Any, page: Page, tmp_path: Path) -> Any:
    """The browser at the page, opened as a file, its console emptied before."""
    from selenium.webdriver.support.wait import WebDriverWait

    file = tmp_path / "index.html"
    file.write_text(
        render_page(replace(page, rows=[replace(row, label=row.label + " — long name") for row in page.rows]))
    )
    browser.get_log("browser")
    browser.get(file.as_uri())
    WebDriverWait(browser, 30).until(lambda b: b.execute_script("return !document.querySelector('.viewer[hidden]')"))
    yield browser
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_page_in_a_browser(opened: Any) -> None:
    """One load for all checks: browsers are slow."""
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    def find(css: str) -> Any:
        return opened.find_element(By.CSS_SELECTOR, f".viewer[data-scenes=validation] {css}")

    def clip() -> float:
        """Percent of the picture that the left layer covers."""
        found = re.search(r"inset\(0\S* ([\d.]+)%", find(".over").get_attribute("style"))
        assert found
        return 100 - float(found[1])

    # every picture is there
    loaded = opened.execute_script("return [...document.images].map(i => i.complete && i.naturalWidth > 0)")
    assert loaded == [True] * (2 * 5 + 3 + 3 + 4 + 1)

    # the slider moves the border: keys, then the pointer on the picture itself
    slider = find(".slider")
    assert clip() == 50
    slider.send_keys(Keys.ARROW_RIGHT * 3)
    assert clip() == 51.5
    stage = find(".stage")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", stage)
    ActionChains(opened).move_to_element(stage).click_and_hold().move_by_offset(
        -stage.size["width"] // 8, 0
    ).release().perform()
    assert clip() == pytest.approx(37.5, abs=1)
    assert float(slider.get_property("value")) == pytest.approx(clip())
    assert f"left: {slider.get_property('value')}%" in find(".handle").get_attribute("style")

    # the classes under the pointer: of 40 columns, 0 to 19 are road in the truth, 10 to 29 in the map of cam
    assert find(".readout").text == "truth: road way · cam: road way"
    ActionChains(opened).move_to_element_with_offset(stage, stage.size["width"] // 8, 0).perform()
    assert find(".readout").text == "truth: car · cam: road way"

    # other layers and areas
    assert find(".at-right").text == "cam"
    Select(find(".right")).select_by_value("full")
    assert find(".at-right").text == "full"
    before = find(".under").get_attribute("src")
    Select(find(".left")).select_by_value("image")
    first = find(".over").get_attribute("src")
    Select(find(".area")).select_by_visible_text("v1")
    assert find(".at-right").text == "full"
    assert find(".over").get_attribute("src") != first
    opened.find_element(By.CSS_SELECTOR, "#scenes-validation .strip img[data-key=pixel]").click()
    assert (find(".at-right").text, find(".area").get_property("value")) == ("pixel", "0")

    # correct pixels fade: columns 0 to 14 of the oracle's map are cars on road, yellow; all else is light
    Select(find(".right")).select_by_value("full")
    find(".fade").click()
    assert find(".under").get_attribute("src") != before
    dark = opened.execute_async_script(
        """const done = arguments[1], img = new Image();
        img.src = arguments[0].src;
        img.decode().then(() => {
          const canvas = document.createElement("canvas");
          canvas.width = img.width; canvas.height = img.height;
          const context = canvas.getContext("2d");
          context.drawImage(img, 0, 0);
          const { data } = context.getImageData(0, 0, img.width, img.height);
          done(data.filter((value, i) => i % 4 === 2 && value < 100).length);
        });""",
        find(".under"),
    )
    assert dark == 15 * 20

    # a phone has no sideways scroll; paper has no slider but the pictures
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= PHONE["width"]
    assert find(".stage").size["width"] > 300
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not find(".slider").is_displayed()
    assert opened.find_element(By.CSS_SELECTOR, "#scenes-validation img[data-key=truth]").is_displayed()

    # nothing was fetched and nothing complained
    fetched = opened.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in fetched if not name.startswith("data:")] == []
    assert [line["message"] for line in opened.get_log("browser")] == []
