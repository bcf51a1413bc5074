"""The page in a browser. Pixels are read back from the canvas, so what is checked is what a person would see."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from pspnet_edge.camera.web import WebView, channel
from pspnet_edge.data.png import indexed_image
from pspnet_edge.labels import LabelSet

from .web_run import LABELS, SUMMARY, answer, running, shot, source, view

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TOKEN = "correct-horse-battery-staple"
INDEX = "document.querySelector('#picture').dataset.index"
LEFT, RIGHT = 0.2, 0.8
"""Where across the picture class 0 and class 1 are."""


@pytest.fixture
def web() -> Iterator[WebView]:
    with view(about="int8 test") as opened, running(opened):
        yield opened


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Open an address in a profile of its own; at the end, nothing may have been complained about on its console."""
    complaints: list[str] = []
    contexts = []

    def opened(url: str, **options: object) -> Page:
        context = chromium.new_context(**{"color_scheme": "dark", **options})
        context.set_default_timeout(30_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    # A view that has ended within the test is looked for again.
    assert [text for text in complaints if "ERR_CONNECTION_REFUSED" not in text] == []


def until(page: Page, true: str) -> None:
    """Wait for an expression. Not by ``wait_for_function``: that evaluates in the page, which its policy forbids."""
    end = time.monotonic() + 60
    while not page.evaluate(true):
        assert time.monotonic() < end, f"never came true: {true}"
        time.sleep(0.05)


def index_of(page: Page) -> int:
    until(page, f"{INDEX} !== undefined")
    return int(page.evaluate(INDEX))


def later_than(page: Page, index: int) -> None:
    until(page, f"{INDEX} > {index}")


def colour_at(page: Page, across: float) -> list[int]:
    """RGB of the canvas at half its height."""
    return page.evaluate(
        """across => { const c = document.querySelector('#picture');
        return [...c.getContext('2d').getImageData(across * c.width, c.height / 2, 1, 1).data.slice(0, 3)]; }""",
        across,
    )


def tint(page: Page, across: float) -> int:
    """How much redder than blue the picture is there; the frames are grey, so 0 is a picture without overlay."""
    red, _, blue = colour_at(page, across)
    return red - blue


def state(page: Page) -> str:
    return page.inner_text("#state")


def test_the_picture_moves_and_is_coloured_by_class(web: WebView, open_page: Callable[..., Page]) -> None:
    page = open_page(web.url)
    first, grey = index_of(page), colour_at(page, LEFT)[1]
    assert tint(page, LEFT) > 60
    assert tint(page, RIGHT) < -60
    later_than(page, first + 10)
    assert colour_at(page, LEFT)[1] != grey, "the index went on and the pixels did not"
    assert state(page) == "live"
    assert page.inner_text("#about") == "int8 test"
    assert page.inner_text("#source") == 'the "front" door'


def test_toggles_change_their_class_and_no_other(web: WebView, open_page: Callable[..., Page]) -> None:
    page = open_page(web.url)
    index_of(page)
    page.get_by_label("left").uncheck()
    assert abs(tint(page, LEFT)) < 12
    assert tint(page, RIGHT) < -60
    page.get_by_label("left").check()
    assert tint(page, LEFT) > 60
    page.get_by_role("button", name="None").click()
    assert abs(tint(page, LEFT)) < 12
    assert abs(tint(page, RIGHT)) < 12
    page.get_by_role("button", name="All").click()
    assert tint(page, RIGHT) < -60


def test_the_slider_goes_from_the_frame_to_the_pure_colour(web: WebView, open_page: Callable[..., Page]) -> None:
    page = open_page(web.url)
    index_of(page)
    page.get_by_label("Opacity").fill("0")
    assert abs(tint(page, LEFT)) < 12
    page.get_by_label("Opacity").fill("100")
    assert colour_at(page, LEFT) == pytest.approx([220, 30, 30], abs=2)
    assert page.inner_text("#opacity-shown") == "100 %"


def test_settings_are_each_viewers_own_and_outlast_a_reload(web: WebView, open_page: Callable[..., Page]) -> None:
    mine, theirs = open_page(web.url), open_page(web.url)
    index_of(mine)
    mine.get_by_label("left").uncheck()
    mine.get_by_label("Opacity").fill("80")
    index_of(theirs)
    assert tint(theirs, LEFT) > 60
    mine.reload()
    index_of(mine)
    assert abs(tint(mine, LEFT)) < 12
    assert tint(mine, RIGHT) < -110
    assert not mine.get_by_label("left").is_checked()


def test_keys_do_what_the_buttons_do_and_every_control_is_reached(web: WebView, open_page: Callable[..., Page]) -> None:
    page = open_page(web.url)
    index_of(page)
    page.keyboard.press("Space")
    until(page, "document.querySelector('#state').textContent === 'frozen'")
    frozen = index_of(page)
    page.get_by_label("Opacity").fill("0")
    assert abs(tint(page, LEFT)) < 12, "controls act on a frozen picture"
    time.sleep(0.5)
    assert index_of(page) == frozen
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Space")
    later_than(page, frozen)
    reached = set()
    for _ in range(15):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.labels?.[0].textContent"))
    assert {"freeze", "save", "mask", "record", "full", "opacity", "split", "outlines", "all", "none"} <= reached
    assert any("right" in (name or "") for name in reached)


def test_pointing_names_the_class(web: WebView, open_page: Callable[..., Page]) -> None:
    page = open_page(web.url)
    index_of(page)
    box = page.locator("#picture").bounding_box()
    assert box is not None
    for share, name in ((LEFT, "left"), (RIGHT, "right")):
        # The picture is 4:3 within the box.
        wide = min(box["width"], box["height"] * 4 / 3)
        page.mouse.move(box["x"] + box["width"] / 2 + (share - 0.5) * wide, box["y"] + box["height"] / 2)
        assert page.inner_text("#pointed") == name
    page.mouse.move(1, 1)
    assert page.locator("#pointed").is_hidden()


def test_the_rate_of_a_slow_engine_does_not_leap(web: WebView, open_page: Callable[..., Page]) -> None:
    page = open_page(web.url)
    rates = page.evaluate(
        """async (histories) => { const { rateOf } = await import("/chart.js"); return histories.map(rateOf); }""",
        [[], [1], [0, 1, 0, 1, 0, 1], [30, 29, 31], [30, 30, 30, 30, 0], [30, 0, 0, 0, 0, 0]],
    )
    assert rates == [None, 1, pytest.approx(0.6), 31, 0, 0]


def test_charts_are_drawn_and_said_in_words(web: WebView, open_page: Callable[..., Page]) -> None:
    page = open_page(web.url)
    index_of(page)
    until(page, "parseFloat(document.querySelector('#fps').textContent) > 5")
    until(page, "!/unknown|0 FPS/.test(document.querySelector('#fps-chart').ariaLabel)")
    for chart, (red, green, blue) in (("fps", (86, 180, 233)), ("age", (230, 159, 0))):
        coloured = page.evaluate(
            """([id, colour]) => { const c = document.querySelector(id);
            const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;
            for (let i = 0; i < d.length; i += 4)
              n += d[i + 3] > 200 && colour.every((value, k) => Math.abs(d[i + k] - value) < 12);
            return n; }""",
            [f"#{chart}-chart", [red, green, blue]],
        )
        assert coloured > 20, chart


def test_shares_of_the_classes_are_shown(web: WebView, open_page: Callable[..., Page]) -> None:
    page = open_page(web.url)
    index_of(page)
    until(page, "document.querySelector('.share').textContent === '50 %'")


def test_a_stale_picture_says_so_with_its_age_and_the_fix(
    open_page: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "_STALE_S", 0.5)
    lost = replace(SUMMARY, sources=(source("a", trouble="camera 0 is gone: plug it in"),))
    with WebView(LABELS, lambda: lost, port=0) as web:
        last = shot(0)
        web.show(last)
        page = open_page(web.url)
        index_of(page)
        web.show(last.again("", "STALE 1 s: camera 0 is gone: plug it in"))
        banner = page.get_by_role("alert")
        banner.wait_for(state="visible")
        until(page, "document.querySelector('#banner').textContent.includes('plug it in')")
        assert state(page) == "stale"
        said = page.inner_text("#banner-age")
        age = float(said.removeprefix("This picture is ").removesuffix(" s old."))
        assert 0.5 < age < 15
        until(page, f"document.querySelector('#banner-age').textContent !== {said!r}")
        with running(web):
            until(page, "document.querySelector('#banner').hidden")
            assert state(page) == "live"


def test_a_board_that_restarts_is_found_again(chromium: Browser) -> None:
    page = chromium.new_page()
    with view() as web, running(web):
        port = int(web.url.split(":")[2].strip("/"))
        page.goto(web.url)
        index_of(page)
    until(page, "document.querySelector('#banner').textContent.includes('The run has ended')")
    assert state(page) == "ended"
    time.sleep(3)
    assert state(page) == "ended", "it looks for the board again, and does not call that a lost connection"
    assert "Connection lost" not in page.inner_text("#banner")
    assert page.locator("#frame[data-old]").count() == 0, "the last picture stays as it was"
    with view(port=port) as web, running(web):
        until(page, "document.querySelector('#state').textContent === 'live'")
    page.close()


def grey_of_tile(page: Page, camera: int) -> int:
    return page.evaluate(
        """camera => { const c = document.querySelector(`.tile[data-camera="${camera}"] canvas`);
        return c.getContext('2d').getImageData(4, 4, 1, 1).data[1]; }""",
        camera,
    )


def test_several_cameras_are_shown_together_and_one_alone_when_chosen(open_page: Callable[..., Page]) -> None:
    with view() as web, running(web, cameras=2):
        page = open_page(web.url)
        index_of(page)
        page.get_by_label("Opacity").fill("0")
        chooser = page.get_by_label("Camera", exact=True)
        chooser.wait_for(state="visible")
        assert chooser.locator("option").all_inner_texts() == ["All cameras", 'the "front" door', "the back door"]
        tiles = page.locator(".tile")
        assert tiles.count() == 2
        assert tiles.nth(1).inner_text().split("\n")[0] == "the back door"
        for camera in (0, 1):
            until(page, f"document.querySelectorAll('.tile-state')[{camera}].textContent === 'live'")
            before = grey_of_tile(page, camera)
            end = time.monotonic() + 10
            while grey_of_tile(page, camera) == before:
                assert time.monotonic() < end, "its picture does not move"
        assert page.get_by_role("button", name="Save").is_disabled()
        why = page.get_by_text("choose a camera to save, record or compare")
        assert why.is_visible()
        tiles.nth(1).click()
        assert why.is_hidden()
        assert chooser.input_value() == "1"
        until(
            page,
            """(() => { const c = document.querySelector('#picture'); const i = Number(c.dataset.index);
            const grey = c.getContext('2d').getImageData(4, 4, 1, 1).data[1];
            return Math.abs(grey - (40 + (i * 5 + 90) % 180)) < 4; })()""",
        )
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("g")
        assert chooser.input_value() == "all"
        assert page.locator("#picture").is_hidden()


@pytest.mark.parametrize("width", [390, 1280])
def test_at_the_end_of_a_run_every_name_in_the_grid_can_be_read(open_page: Callable[..., Page], width: int) -> None:
    with view() as web, running(web, cameras=2):
        page = open_page(web.url, viewport={"width": width, "height": 844})
        until(page, "document.querySelectorAll('.tile-state')[1]?.textContent === 'live'")
    until(page, "document.querySelector('#banner').textContent.includes('The run has ended')")
    assert page.evaluate(
        """[...document.querySelectorAll('.tile-name')].map(name => {
        const { x, y, width, height } = name.getBoundingClientRect();
        return name.contains(document.elementFromPoint(x + width / 2, y + height / 2)); })"""
    ) == [True, True]
    page.locator(".tile").nth(1).click()  # shown alone, it keeps its last picture
    until(
        page,
        """(() => { const c = document.querySelector('#picture'); if (c.hidden || !c.width) return false;
        return c.getContext('2d').getImageData(4, 4, 1, 1).data.slice(0, 3).some(value => value > 20); })()""",
    )


@pytest.mark.parametrize("width", [400, 900, 1024, 1100, 1280])
def test_no_title_lies_under_the_keys_of_its_chart(open_page: Callable[..., Page], width: int) -> None:
    with view() as web, running(web):
        page = open_page(web.url, viewport={"width": width, "height": 844})
        assert not page.evaluate(
            """(() => { const keys = document.querySelector('.keys').getBoundingClientRect();
            return [...document.querySelectorAll('.charts h2, .charts .figure > *')].some(one => {
              const text = document.createRange();
              text.selectNodeContents(one);
              const { left, right, top, bottom } = text.getBoundingClientRect();
              return right > left && right > keys.left && left < keys.right && bottom > keys.top && top < keys.bottom;
            }); })()"""
        )


def test_a_camera_that_comes_later_joins_without_a_reload(open_page: Callable[..., Page]) -> None:
    with view() as web, running(web) as _:
        page = open_page(web.url)
        index_of(page)
        assert page.locator("#tiles").is_hidden()
        with running(web, cameras=2):
            until(page, "document.querySelectorAll('.tile').length === 2")
            until(page, "[...document.querySelectorAll('.tile-state')].every(one => one.textContent === 'live')")


def test_a_source_that_ends_is_called_ended_while_the_run_continues(open_page: Callable[..., Page]) -> None:
    ended = replace(SUMMARY, sources=(source("a door"), source("the back door", state="ended")))
    with WebView(LABELS, lambda: ended, port=0) as web:
        web.show(shot(0, 1))
        with running(web):
            page = open_page(web.url)
            until(page, "document.querySelectorAll('.tile-state')[1]?.textContent === 'ended'")
            until(page, "document.querySelectorAll('.tile-state')[0].textContent === 'live'")
            assert page.locator("#banner").is_hidden()
            page.locator(".tile").nth(1).click()
            until(page, "document.querySelector('#banner').textContent.includes('the back door has ended')")


def test_the_split_shows_the_frame_on_its_left(web: WebView, open_page: Callable[..., Page]) -> None:
    page = open_page(web.url)
    index_of(page)
    page.get_by_label("Original").fill("50")
    assert abs(tint(page, LEFT)) < 12
    assert tint(page, RIGHT) < -60
    box = page.locator("#picture").bounding_box()
    assert box is not None
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    wide = min(box["width"], box["height"] * 4 / 3)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 0.4 * wide, middle[1])
    page.mouse.up()
    assert tint(page, LEFT) > 60, "the line was dragged to the left"
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("c")
    assert page.inner_text("#split-shown") == "off"


def test_picture_mask_and_video_are_downloaded(web: WebView, open_page: Callable[..., Page], tmp_path: Path) -> None:
    page = open_page(web.url)
    index_of(page)
    for button, suffix in (("Save", ".png"), ("Mask", ".mask.png")):
        with page.expect_download() as got:
            page.get_by_role("button", name=button).click()
        assert got.value.suggested_filename.endswith(suffix)
        got.value.save_as(tmp_path / f"{button}.png")
    assert cv2.imread(str(tmp_path / "Save.png")).shape == (60, 80, 3)
    image = indexed_image((tmp_path / "Mask.png").read_bytes())
    np.testing.assert_array_equal(image.indices, shot(0).mask)
    assert [tuple(colour) for colour in image.palette[:2].tolist()] == list(LABELS.palette)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("r")
    until(page, "document.querySelector('#record').textContent.startsWith('Stop 0:02')")
    with page.expect_download() as got:
        page.keyboard.press("r")
    video = tmp_path / got.value.suggested_filename
    got.value.save_as(video)
    capture = cv2.VideoCapture(str(video))
    assert capture.read()[0], "the recording plays"
    assert page.inner_text("#record") == "Record"


def test_names_from_outside_are_text_and_stay_in_their_place(open_page: Callable[..., Page]) -> None:
    evil = "<img src=x onerror=alert(1)>\u202eevil\u202c"
    labels = LabelSet("evil", (evil, "right"), ((220, 30, 30), (30, 30, 220)))
    named = replace(SUMMARY, sources=(source(evil, trouble=evil),))
    with WebView(labels, lambda: named, port=0, about=evil) as web, running(web):
        page = open_page(web.url)
        index_of(page)
        assert page.locator("main img, header img:not(.mark)").count() == 0
        for place in (".name", "#source", "#about"):
            assert page.locator(place).first.inner_text() == evil
            assert page.evaluate(f"getComputedStyle(document.querySelector('{place}')).unicodeBidi") == "isolate"


def test_a_background_class_begins_clear_and_the_command_line_chooses_the_rest(open_page: Callable[..., Page]) -> None:
    labels = LabelSet("with background", ("background", "right"), ((220, 30, 30), (30, 30, 220)))
    with WebView(labels, lambda: SUMMARY, port=0, opacity=0.9) as web, running(web):
        page = open_page(web.url)
        index_of(page)
        assert abs(tint(page, LEFT)) < 12
        assert page.inner_text("#opacity-shown") == "90 %"
        page.get_by_label("background").check()
        assert tint(page, LEFT) > 60


def test_a_hidden_page_costs_the_board_nothing(web: WebView, open_page: Callable[..., Page]) -> None:
    page = open_page(web.url)
    index_of(page)
    hide = """hidden => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange')); }"""
    page.evaluate(hide, True)
    end = time.monotonic() + 10
    while '"viewers": 0' not in answer(web, "/stats")[1]:
        assert time.monotonic() < end, "it still watches"
        time.sleep(0.05)
    before = index_of(page)
    page.evaluate(hide, False)
    later_than(page, before)


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_it_fits_a_phone_and_a_desk(web: WebView, open_page: Callable[..., Page], width: int) -> None:
    page = open_page(web.url, viewport={"width": width, "height": 800})
    index_of(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#picture").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 800, "the whole picture is seen without scrolling"


# --- the token in a real browser --------------------------------------------------------------------------------------


def test_a_wrong_token_shows_one_word_and_asks_for_nothing_else(chromium: Browser) -> None:
    with view(token=TOKEN) as web, running(web):
        page = chromium.new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        for address in (web.url.replace(TOKEN, "wrong-token-wrong-token"), web.url.partition("?")[0]):
            response = page.goto(address)
            assert response is not None
            assert response.status == 401
            assert page.inner_text("html") == "unauthorized"
        assert not any("stream" in url or "page" in url for url in asked)
        page.close()


def test_the_link_with_the_token_opens_the_page_and_leaves_no_token_behind(open_page: Callable[..., Page]) -> None:
    with view(token=TOKEN) as web, running(web):
        page = open_page(web.url)
        page.wait_for_url(web.url.partition("?")[0])
        index_of(page)
        assert page.evaluate("document.cookie") == ""
        assert page.evaluate("performance.getEntries().every(one => !one.name.includes('token'))")
        page.reload()
        index_of(page)


def test_the_link_works_from_another_site_too(open_page: Callable[..., Page]) -> None:
    """From a chat or a mail: a SameSite=Strict cookie is not sent along a redirect that began elsewhere."""
    with view(token=TOKEN) as web, running(web), elsewhere(f'<a href="{web.url}">the camera</a>') as address:
        page = open_page(address)
        page.get_by_role("link").click()
        page.wait_for_url(web.url.partition("?")[0])
        index_of(page)


def test_a_page_of_another_site_sees_nothing(chromium: Browser, web: WebView) -> None:
    """Neither by WebSocket nor in a frame, though the browser can reach the board."""
    with elsewhere("<p>evil</p>") as address:
        page = chromium.new_page()
        page.goto(address)
        said = page.evaluate(
            """url => new Promise(done => { const s = new WebSocket(url.replace('http', 'ws') + 'stream');
            s.onmessage = () => done('message'); s.onopen = () => done('open');
            s.onerror = () => done('refused'); })""",
            web.url,
        )
        assert said == "refused"
        assert page.evaluate("url => fetch(url + 'stats').then(() => 'read', () => 'refused')", web.url) == "refused"
        page.close()


@contextlib.contextmanager
def elsewhere(body: str) -> Iterator[str]:
    """A page on ``localhost``, which to a browser is another site than 127.0.0.1."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f"<link rel=icon href='data:,'>{body}".encode())

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
