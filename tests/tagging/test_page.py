"""The page of `weakseg tag` in a browser: keyboard, mouse, grid, two people, a server that goes and comes back."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tagging.test_server import start as start_process

from weakseg.core.classes import ISPRS, ClassScheme, load_classes
from weakseg.labels.answer_file import read_answers
from weakseg.labels.answers import TagAnswer
from weakseg.raster.write import write_raster
from weakseg.report.safe_colours import safe_scheme
from weakseg.tagging.run import tag_server

# Of text on its ground, as WCAG 2 has it; the body's own ground is that of the panel.
CONTRAST = """
    const element = one => one instanceof Element ? one : document.querySelector(one);
    const [ground, text] = PAIR;
    const behind = element(ground) === document.body ? document.querySelector("aside") : element(ground);
    const light = colour => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const [a, b] = [light(getComputedStyle(behind).backgroundColor), light(getComputedStyle(element(text)).color)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);"""
SPACE, ENTER, ESCAPE, RIGHT, DOWN = " ", "\ue007", "\ue00c", "\ue014", "\ue015"


@pytest.fixture
def serve(workspace: Path) -> Iterator[Callable[..., Any]]:
    """Starts a server of the tiny workspace (32 crops); gives (address, how to stop it)."""
    with ExitStack() as stack:

        def start(**options: Any) -> tuple[str, Callable[[], None]]:
            own = stack.enter_context(ExitStack())
            server, said = own.enter_context(tag_server(workspace, **{"model": "none"} | options))
            own.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            return said.splitlines()[0], own.close

        yield start


class Page:
    """One window of the browser with the page in it."""

    def __init__(self, browser: Any, address: str, name: str = "Ana") -> None:
        self.browser = browser
        browser.get_log("browser")
        browser.get(address)
        self.wait(lambda: self.element("#door").is_displayed())
        self.element("#name").clear()
        self.element("#name").send_keys(name + ENTER)
        self.wait(lambda: self.run("return document.body.dataset.ready") == "yes")

    def wait(self, done: Callable[[], Any]) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, 30, poll_frequency=0.02).until(lambda _: done())

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def element(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        return list(self.browser.find_elements("css selector", selector))

    def text(self, selector: str) -> str:
        return str(self.element(selector).text)

    def press(self, keys: str) -> None:
        """Key by key, as a person does: after space and z the next one comes when the page has gone on."""
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.browser).send_keys(key).perform()
            self.settle()

    def settle(self) -> None:
        self.wait(lambda: not self.run("return busy"))

    def click(self, selector: str, number: int = 0) -> None:
        self.all(selector)[number].click()
        self.settle()

    def states(self) -> str:
        """A sign per class: + marked, ? not sure, - neither."""
        signs = {"true": "+", "mixed": "?", "false": "-"}
        return "".join(signs[one.get_attribute("aria-checked")] for one in self.all(".class"))

    def crop(self) -> tuple[str, tuple[int, ...]]:
        found = self.run("return current && current.crops[0]")
        return found["area"], tuple(found["window"])

    def quiet(self) -> bool:
        return self.browser.get_log("browser") == []


def answers(workspace: Path) -> list[TagAnswer]:
    return read_answers(workspace / "tagging" / "answers.jsonl", load_classes(workspace / "data" / "classes.yaml"))


def test_a_crop_is_tagged_by_keyboard_alone(workspace: Path, serve: Callable[..., Any], browser: Any) -> None:
    page = Page(browser, serve()[0])
    first = page.crop()
    assert page.states() == "-----"
    page.press("241")
    assert page.states() == "++-+-"
    page.press("1")  # again: it is not in it
    began = page.run("return current.clock.seconds()")
    page.press(SPACE)
    (kept,) = answers(workspace)
    assert (kept.crop, kept.present, kept.unsure) == (first, ("building", "tree"), ())
    assert kept.absent == ("impervious_surface", "low_vegetation", "car")
    assert (kept.annotator, kept.mode) == ("Ana", "crop")
    assert began <= kept.seconds < 30
    assert page.crop() != first
    assert page.states() == "-----"
    assert page.text("#progress span") == "1 by you, 1 of 32 done"
    assert page.quiet()


def test_undo_brings_the_crop_back_with_what_was_said(workspace: Path, serve: Callable[..., Any], browser: Any) -> None:
    page = Page(browser, serve()[0])
    first = page.crop()
    page.press("24" + SPACE)
    second = page.crop()
    page.press("5" + SPACE)
    third = page.crop()
    page.press("z")
    assert (page.crop(), page.states()) == (second, "----+")
    page.press("z")
    assert (page.crop(), page.states()) == (first, "-+-+-")
    assert answers(workspace) == []
    page.press("3" + SPACE)
    assert page.crop() == second  # what had been on the page comes after it
    page.press("1" + SPACE)
    assert page.crop() == third
    assert [(one.crop, one.present) for one in answers(workspace)] == [
        (first, ("building", "low_vegetation", "tree")), (second, ("impervious_surface",)),
    ]  # fmt: skip
    page.press("zzz")
    assert page.text("#message") == "There is nothing to take back."
    assert page.quiet()


def test_not_sure_is_of_the_class_pressed_last_or_next_or_of_all(
    workspace: Path, serve: Callable[..., Any], browser: Any
) -> None:
    page = Page(browser, serve()[0])
    page.press("15u")
    assert page.states() == "+---?"
    page.press("5")
    assert page.states() == "+---+"
    page.press("5" + SPACE)
    page.press("u")
    assert page.element("#unsure").get_attribute("aria-pressed") == "true"
    page.press("4")
    assert page.states() == "---?-"
    page.press(SPACE + "uu")
    assert page.states() == "?????"
    page.press(SPACE)
    kept = answers(workspace)
    assert [one.unsure for one in kept] == [(), ("tree",), ISPRS.names]
    assert kept[1].absent == ("impervious_surface", "building", "low_vegetation", "car")


def test_a_crop_without_any_class_wants_space_twice(workspace: Path, serve: Callable[..., Any], browser: Any) -> None:
    page = Page(browser, serve()[0])
    first = page.crop()
    page.press(SPACE)
    assert page.text("#message").startswith("Nothing is marked. Space again if none of the classes is in it")
    assert (page.crop(), answers(workspace)) == (first, [])
    page.press(SPACE)
    assert answers(workspace)[0].absent == ISPRS.names


def test_only_what_would_tell_most_is_asked(workspace: Path, serve: Callable[..., Any], browser: Any) -> None:
    order = workspace / "next.csv"
    rows = ("t1,0,0,16,16,car", "t1,16,0,16,16,car building", "t2,0,0,16,16,tree", "t1,0,16,16,16,")
    order.write_text("\n".join(["area,row,column,height,width,asks", *rows, ""]))
    page = Page(browser, serve(order=order)[0])
    unasked = "return [...document.querySelectorAll('.unasked')].map(button => button.dataset.name)"
    assert page.text("#task") == "Is there car in the bright crop?"
    assert page.run(unasked) == ["impervious_surface", "building", "low_vegetation", "tree"]
    page.press(SPACE)  # no; one space is enough where nobody can have forgotten anything
    assert page.text("#task") == "Which are in the bright crop: building, car?"
    page.press("23" + SPACE)  # low vegetation was not asked; who sees it may say so
    page.press("uu" + SPACE)
    first, second, third = answers(workspace)
    assert (first.present, first.absent, first.unsure) == ((), ("car",), ())
    assert (second.present, second.absent, second.unsure) == (("building", "low_vegetation"), ("car",), ())
    assert (third.present, third.absent, third.unsure) == ((), (), ("tree",))
    assert page.text("#task") == "What is in the bright crop?"
    assert page.run(unasked) == []
    page.press("z")
    assert (page.text("#task"), page.states()) == ("Is there tree in the bright crop?", "---?-")
    assert page.run(unasked) == ["impervious_surface", "building", "low_vegetation", "car"]
    assert page.quiet()


def test_a_key_that_is_held_down_confirms_nothing(workspace: Path, serve: Callable[..., Any], browser: Any) -> None:
    page = Page(browser, serve()[0])
    page.press("2")
    held = "document.dispatchEvent(new KeyboardEvent('keydown', {key: ' ', code: 'Space', repeat: arguments[0]}))"
    page.run(held, True)
    page.settle()
    assert answers(workspace) == []
    page.run(held.replace("document", "document.body").replace("repeat", "bubbles: true, repeat"), False)
    page.settle()
    assert len(answers(workspace)) == 1


def test_a_picture_that_cannot_be_had_is_said(
    workspace: Path, serve: Callable[..., Any], browser: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    address, _ = serve(areas=["t1"])
    path = workspace / "data" / "images" / "t1.tif"
    path.write_bytes(path.read_bytes()[:400])
    page = Page(browser, address)
    assert page.text("#message").startswith("A picture could not be loaded")
    browser.get_log("browser")  # Chromium itself notes the status


def test_a_crop_is_tagged_by_mouse_alone(workspace: Path, serve: Callable[..., Any], browser: Any) -> None:
    page = Page(browser, serve()[0])
    first = page.crop()
    page.click(".class", 1)
    page.click("#unsure")
    page.click(".class", 4)
    assert page.states() == "-?--+"
    page.click("#next")
    assert [(one.present, one.unsure) for one in answers(workspace)] == [(("car",), ("building",))]
    page.click("#undo")
    assert (page.crop(), page.states()) == (first, "-?--+")
    page.click("#help-button")
    assert "keep the answer, next crop" in page.text("#keys")
    page.press(ESCAPE)
    assert not page.element("#help").is_displayed()
    assert page.quiet()


def test_a_crop_is_tagged_by_touch_on_a_tablet(workspace: Path, serve: Callable[..., Any], browser: Any) -> None:
    size = {"width": 820, "height": 1180, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 2})
    try:
        page = Page(browser, serve()[0])

        def tap(selector: str, number: int = 0) -> None:
            middle = """const box = document.querySelectorAll(arguments[0])[arguments[1]].getBoundingClientRect();
                return {x: box.x + box.width / 2, y: box.y + box.height / 2};"""
            point = page.run(middle, selector, number)
            browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
            browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
            page.settle()

        tap(".class", 1)
        page.wait(lambda: page.states() == "-+---")
        tap("#next")
        page.wait(lambda: len(answers(workspace)) == 1)
        tap("#mode-grid")
        page.wait(lambda: page.run("return document.body.dataset.mode") == "grid" and page.all(".cell"))
        assert page.run("return matchMedia('(pointer: coarse)').matches")
        assert len({cell.rect["y"] for cell in page.all(".cell")}) >= 3  # as large as the tablet lets them be
        tap(".cell", 2)
        page.wait(lambda: page.all(".cell")[2].get_attribute("aria-checked") == "true")
        tap("#next")
        page.wait(lambda: len(answers(workspace)) > 2)
        kept = answers(workspace)
        assert kept[0].present == ("building",)
        assert [index for index, one in enumerate(kept[1:]) if one.present] == [2]
        assert page.quiet()
    finally:
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_classes_and_marks_are_told_apart_without_seeing_their_colours(
    serve: Callable[..., Any], browser: Any, theme: str
) -> None:
    """Buttons have the colours of colour-blind readers; a mark is a sign, and its contrast is that of text."""
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        page = Page(browser, serve()[0])
        shown = [one.value_of_css_property("background-color") for one in page.all(".class .colour")]
        found = [tuple(map(int, re.findall(r"\d+", colour)[:3])) for colour in shown]
        assert found == list(safe_scheme(ISPRS).colours)
        assert found != list(ISPRS.colours)
        page.press("2" + "3u")
        sign = "return getComputedStyle(document.querySelectorAll('.mark')[arguments[0]], '::after').content"
        assert [page.run(sign, index) for index in range(3)] == ["none", '"✓"', '"?"']
        pairs = ["[document.body, '.class .name']", "['.class[aria-checked=true]', '.class[aria-checked=true] .name']"]
        pairs += ["['.class[aria-checked=true] .mark', '.class[aria-checked=true] .mark']", "['#next', '#next']"]
        assert min(page.run(CONTRAST.replace("PAIR", pair)) for pair in pairs) >= 4.5
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_crop_lies_where_it_belongs(serve: Callable[..., Any], browser: Any) -> None:
    page = Page(browser, serve()[0])
    places = """
        const box = id => document.querySelector(id).getBoundingClientRect();
        const part = (inner, outer) => [(inner.left - outer.left) / outer.width, (inner.top - outer.top) / outer.height,
            inner.width / outer.width, inner.height / outer.height];
        return [part(box("#window"), box("#crop")), box("#crop").width / box("#crop").height];"""
    (left, top, width, height), ratio = page.run(places)
    crop = page.run("return current.crops[0]")
    (row, column, tall, wide), (upper, first, rows, columns) = crop["window"], crop["frame"]
    expected = [(column - first) / columns, (row - upper) / rows, wide / columns, tall / rows]
    assert [left, top, width, height] == pytest.approx(expected, abs=0.01)
    assert ratio == pytest.approx(columns / rows, rel=0.01)
    page.press("m")
    page.element("#crop").click()
    page.element("#crop").click()
    part, ratio = page.run(places.replace("#window", "#picture"))
    assert part == pytest.approx([(first - column) / wide, (upper - row) / tall, columns / wide, rows / tall], abs=0.02)
    assert ratio == pytest.approx(wide / tall, rel=0.01)
    page.wait(lambda: page.element("#overview img").is_displayed())
    marked = page.run(places.replace("#window", "#overview b").replace("#crop", "#overview img"))[0]
    assert marked[:2] == pytest.approx([column / 64, row / 64], abs=0.02)


def test_a_grid_marks_many_crops_for_one_class(workspace: Path, serve: Callable[..., Any], browser: Any) -> None:
    page = Page(browser, serve()[0])
    page.click("#mode-grid")
    page.click(".class", 4)
    assert page.text("#task") == "Mark every crop with car in it"
    count = len(page.all(".cell"))
    assert 6 <= count <= 32
    keys = [cell.get_attribute("data-key") for cell in page.all(".cell")]
    page.click(".cell", 0)
    page.click(".cell", 2)
    page.click(".cell", 2)  # again: it is not
    page.click("#unsure")
    page.click(".cell", 3)
    page.press(RIGHT + DOWN)  # focus is on 3: 4, then the one below it
    focused = page.run("return [...document.querySelectorAll('.cell')].indexOf(document.activeElement)")
    assert focused > 4
    page.press(ENTER)
    page.press(SPACE)
    kept = answers(workspace)
    assert [one.present for one in kept if one.present] == [("car",)] * 2
    assert [f"{'_'.join(map(str, one.window))}_{one.area}" for one in kept] == keys
    assert [index for index, one in enumerate(kept) if one.present] == [0, focused]
    assert [index for index, one in enumerate(kept) if one.unsure] == [3]
    assert {one.mode for one in kept} == {"grid"}
    assert len({one.batch for one in kept}) == 1
    assert not {cell.get_attribute("data-key") for cell in page.all(".cell")} & set(keys)
    page.press("z")
    assert [cell.get_attribute("data-key") for cell in page.all(".cell")] == keys
    marked = [cell.get_attribute("aria-checked") for cell in page.all(".cell")]
    assert [index for index, state in enumerate(marked) if state == "true"] == [0, focused]
    assert answers(workspace) == []
    page.press("g")
    assert page.element("#crop").is_displayed()
    assert page.quiet()


def test_two_people_at_once_get_different_crops(workspace: Path, serve: Callable[..., Any], browser: Any) -> None:
    address, _ = serve()
    ana = Page(browser, address, "Ana")
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    second = browser.current_window_handle
    try:
        ben = Page(browser, address, "Ben")
        for _ in range(4):
            for window, page in ((first, ana), (second, ben)):
                browser.switch_to.window(window)
                page.press("4" + SPACE)
    finally:
        browser.switch_to.window(second)
        browser.close()
        browser.switch_to.window(first)
    kept = answers(workspace)
    assert [one.annotator for one in kept] == ["Ana", "Ben"] * 4
    assert len({one.crop for one in kept}) == 8


def test_an_answer_waits_for_a_server_that_is_killed(workspace: Path, browser: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    process, address = start_process(workspace)
    try:
        page = Page(browser, address)
        first = page.crop()
        process.kill()
        process.wait()
        ActionChains(browser).send_keys("2" + SPACE).perform()
        page.wait(lambda: "not kept yet: weakseg tag does not answer" in page.text("#message"))
        assert page.crop() == first  # nobody goes on with an answer that is not on disk
        assert answers(workspace) == []
        process, again = start_process(workspace, int(address.split(":")[2].split("/")[0]))
        assert again == address
        page.wait(lambda: page.run("return current") and page.crop() != first)
        page.settle()
        assert [(one.crop, one.present) for one in answers(workspace)] == [(first, ("building",))]
        assert page.text("#message") == ""
        browser.get_log("browser")  # Chromium itself notes the refused connections
    finally:
        process.kill()
        process.wait()


def test_a_browser_that_is_gone_loses_nothing_and_a_new_one_goes_on(
    workspace: Path, serve: Callable[..., Any], browser: Any
) -> None:
    address, _ = serve()
    page = Page(browser, address)
    page.press("2" + SPACE + "3" + SPACE + "45")
    browser.get("about:blank")
    again = Page(browser, address)
    assert again.text("#progress span") == "2 by you, 2 of 32 done"
    assert again.crop() not in {one.crop for one in answers(workspace)}
    assert again.states() == "-----"


def guesses(area: str, image: Any) -> Any:
    """Tree where green is bright, else building."""
    green = image[..., 1].astype(np.float32) / 255
    return np.stack([1 - green, green])


def test_a_guess_is_prefilled_shown_as_one_and_mended(
    workspace: Path, serve: Callable[..., Any], browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for area in ("t1", "t2"):
        image = np.full((64, 64, 3), 230, np.uint8)
        write_raster(workspace / "data" / "images" / f"{area}.tif", image)
    load = lambda: (("building", "tree"), "digest", guesses)  # noqa: E731
    monkeypatch.setattr("weakseg.tagging.run._loader", lambda file, images: load)
    page = Page(browser, serve(model="out/some/seed0.pt")[0])
    assert page.states() == "---+-"
    rows = page.all(".class")
    shares = [row.find_element("class name", "share").text for row in rows]
    assert [("guessed" in row.get_attribute("class"), share) for row, share in zip(rows, shares, strict=True)] == [
        (False, ""), (True, "guess 10 %"), (False, ""), (True, "guess 90 %"), (False, ""),
    ]  # fmt: skip
    assert page.text("#guess-note") == "Dashed: a guess of some/seed0.pt. Mend it; space confirms what is marked."
    page.press("4")
    assert page.states() == "-----"
    assert "guessed" not in page.all(".class")[3].get_attribute("class")
    page.press("5" + SPACE + SPACE)
    kept = answers(workspace)
    assert [one.present for one in kept] == [("car",), ("tree",)]
    assert (kept[0].guess, kept[0].model) == ({"building": 0.098, "tree": 0.902}, "digest")
    assert page.quiet()


def test_a_guess_that_comes_late_changes_nothing_that_is_seen(
    workspace: Path, serve: Callable[..., Any], browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(area: str, image: Any) -> Any:
        time.sleep(1)
        return guesses(area, np.full_like(image, 230))

    monkeypatch.setattr(
        "weakseg.tagging.run._loader", lambda file, images: lambda: (("building", "tree"), "digest", slow)
    )
    page = Page(browser, serve(model="out/some/seed0.pt")[0])
    assert page.states() == "-----"
    page.wait(lambda: page.run("return queue[0].guess.then(() => true)"))
    assert page.states() == "-----"
    page.press("1" + SPACE)
    assert answers(workspace)[0].guess == {}


def test_pauses_are_no_time_of_work(serve: Callable[..., Any], browser: Any) -> None:
    page = Page(browser, serve()[0])
    found = page.run("""
        let at = 0, gone = false;
        const clock = makeClock(() => at, () => gone), seen = [];
        at = 5000; seen.push(clock.seconds());                   // five seconds of looking
        gone = true; clock.touch(); at += 3600000;               // an hour in another window
        gone = false; clock.touch(); seen.push(clock.seconds());
        at += 2000; seen.push(clock.seconds());
        at += 3600000; seen.push(clock.seconds());               // an hour of coffee: one minute of it counts
        return seen;""")
    assert found == [5, 5, 7, 67]


def test_texts_of_people_and_files_are_never_html(workspace: Path, serve: Callable[..., Any], browser: Any) -> None:
    evil = "<img src=x onerror=document.title='owned'>"
    for path in (workspace / "data" / "images").glob("t*.tif"):
        path.unlink()
    write_raster(workspace / "data" / "images" / f"{evil}.tif", np.full((32, 32, 3), 99, np.uint8))
    ClassScheme((evil, "tree"), ((1, 2, 3), (4, 5, 6))).save(workspace / "data" / "classes.yaml")
    page = Page(browser, serve(areas=[evil])[0], evil)
    assert page.text("#who") == evil
    assert page.text(".class .name") == evil.replace("_", " ")
    page.wait(lambda: page.text("#where").startswith(f"{evil}, row "))
    page.press("1" + SPACE)
    (kept,) = answers(workspace)
    assert (kept.area, kept.annotator, kept.present) == (evil, evil, (evil,))
    page.press("g")
    assert page.all("img[onerror]") == []
    assert browser.title == "weakseg: tag crops"
    assert page.quiet()


def test_thirty_one_classes_are_all_within_reach(workspace: Path, serve: Callable[..., Any], browser: Any) -> None:
    names = tuple(f"class {index}" for index in range(31))
    ClassScheme(names, tuple((index, 0, 0) for index in range(31))).save(workspace / "data" / "classes.yaml")
    page = Page(browser, serve()[0])
    keys = [one.text for one in page.all(".class kbd")]
    assert len(set(keys)) == 31
    assert not set(keys) & {"z", "u", "g", "m", "n", " "}
    page.press(keys[0] + keys[9] + keys[30])
    page.press(SPACE)
    assert answers(workspace)[0].present == ("class 0", "class 9", "class 30")


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (820, 1180), (1180, 820), (390, 844)])
def test_it_fits_a_desk_a_tablet_and_a_telephone(
    serve: Callable[..., Any], browser: Any, width: int, height: int
) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page = Page(browser, serve()[0])
        assert page.run("return document.documentElement.scrollWidth") <= width
        for selector in (".class", "#next", "#undo", "#unsure", "#mode-grid"):
            for button in page.all(selector):
                assert min(button.size["height"], button.size["width"]) >= 44, selector
        bottom = page.run("return document.getElementById('next').getBoundingClientRect().bottom")
        assert bottom <= height
        crop = page.element("#window").size
        assert min(crop["width"], crop["height"]) >= 170
        page.click("#mode-grid")
        assert page.run("return document.documentElement.scrollWidth") <= width
        assert all(cell.size["width"] >= 80 for cell in page.all(".cell"))
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_when_all_is_tagged_the_page_says_what_comes_next(serve: Callable[..., Any], browser: Any) -> None:
    page = Page(browser, serve(areas=["t1"], size=64)[0])
    page.press("1" + SPACE)
    assert "Nothing left to tag here" in page.text("#nothing")
    assert "weakseg tag --merge" in page.text("#nothing")
    assert page.text("#progress span") == "1 by you, 1 of 1 done"
    page.press("z")
    assert page.states() == "+----"
    assert not page.element("#nothing").is_displayed()
