"""The page at /, in a real browser in front of a real server: what people do on it, and what it must never do."""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from export.pipeline import Request, export
from models.families.basic.dcgan import DcganGenerator
from tests.models.all_cases import CASES
from tests.models.cases.base import ready
from tests.server.api.test_access import write_keys
from tests.server.graphs import LAYERS, Z, add_critic, write_styled, write_translator, write_upscaler
from tests.serving import ServerProcess, running

LIMIT_S = 60
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
# What has no name for people who do not see it.
NAMELESS = """
return [...document.querySelectorAll("input, select, button, a, canvas, img:not([hidden])")].filter((each) => {
  if (!each.checkVisibility() || each.closest("button") !== each && each.closest("button")) return false;
  return !(each.labels?.length || each.textContent.trim() || each.ariaLabel || each.alt);
}).map((each) => each.outerHTML);
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page") / "repository"
    add_critic(root, "styled", write_styled(root, "styled"), ((0, 50, 100, 150, 255),) * 3)
    write_upscaler(root, "up")
    write_translator(root, "translate")
    write_translator(root, "tensors", tensors="float32")
    torch.manual_seed(0)
    torch.save(DcganGenerator((6, 16, 8, 3)).state_dict(), root.parent / "plain.pth")
    export(Request(root.parent / "plain.pth", root, "plain", directions="auto"))
    for name, case, centers in (("alias", CASES["stylegan3-r"], 2), ("hair", CASES["stargan"], 0)):
        torch.save(dict(case.file(ready(case))), root.parent / f"{name}.pt")
        request = Request(root.parent / f"{name}.pt", root, name, overrides=dict(case.overrides))
        export(replace(request, truncation_centers=centers))
    return root


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[ServerProcess]:
    with running(repository, "--device", "cpu") as server:
        yield server


@pytest.fixture(scope="module")
def chromium(needs_chromium: None) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    for each in OPTIONS:
        options.add_argument(each)
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    driver.set_page_load_timeout(LIMIT_S)
    yield driver
    driver.quit()


class Page:
    """The page of a server as one person has it open."""

    def __init__(self, driver: webdriver.Chrome, address: str) -> None:
        self.driver = driver
        self.address = address

    def open(self, fragment: str = "", width: int = 1440) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get("about:blank")
        self.driver.get(f"{self.address}/{fragment}")

    def at(self, name: str) -> Any:
        return self.driver.find_element(By.ID, name)

    def until(self, what: Callable[[], Any]) -> Any:
        return WebDriverWait(self.driver, LIMIT_S, 0.05).until(lambda _: what())

    def grid(self) -> list[Any]:
        """The images of the grid, once all of them are there."""
        images = 'const images = [...document.querySelectorAll("#grid img")];'
        there = "return images.length > 0 && images.every((each) => each.naturalWidth)"
        self.until(lambda: self.driver.execute_script(images + there))
        return self.driver.find_elements(By.CSS_SELECTOR, "#grid button")

    def pixels(self, name: str = "after") -> Any:
        """What an image element shows."""
        script = """
        const image = document.getElementById(arguments[0]), done = arguments[1];
        image.decode().then(async () => {
          const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
          const context = canvas.getContext("2d");
          context.drawImage(image, 0, 0);
          const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
          done([canvas.height, canvas.width, [...data]]);
        }).catch(() => done(null));  // another image has come
        """
        height, width, data = self.until(lambda: self.driver.execute_async_script(script, name))
        return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]

    def code(self, language: str) -> str:
        details = self.at("request")
        if not details.get_attribute("open"):
            details.find_element(By.TAG_NAME, "summary").click()
        self.at(f"tab-{language}").click()
        return str(self.at("code").text)


def wrong_in(driver: webdriver.Chrome) -> list[str]:
    """What the browser found wrong since it was asked last."""
    return [line["message"] for line in driver.get_log("browser") if line["level"] == "SEVERE"]  # type: ignore[no-untyped-call]


@pytest.fixture
def page(chromium: webdriver.Chrome, server: ServerProcess) -> Iterator[Page]:
    yield Page(chromium, f"http://127.0.0.1:{server.ready['rest_port']}")
    assert not wrong_in(chromium), "such as what the policy forbids"


def image_of(page: Page, query: str, model: str = "styled") -> Any:
    answer = httpx.get(f"{page.address}/v1/models/{model}/image?{query}")
    return np.array(Image.open(io.BytesIO(answer.raise_for_status().content)).convert("RGB"))


def test_seeds_are_a_grid_and_the_chosen_one_is_shown_with_its_request(page: Page) -> None:
    page.open("#model=styled&seed=5&count=4&label=1&format=png")
    cells = page.grid()
    assert [each.get_attribute("aria-label") for each in cells] == ["Seed 5", "Seed 6", "Seed 7", "Seed 8"]
    cells[2].click()
    page.until(lambda: page.at("caption").text.startswith("Seed 7: "))
    np.testing.assert_array_equal(page.pixels(), image_of(page, "seed=7&label=1"))
    assert f"{Z} x {LAYERS} px, png" in page.at("caption").text
    assert re.search(
        r"ms until it was here; (the server had it|on the server .* in a batch of \d+)", page.at("status").text
    )
    address = f"{page.address}/v1/models/styled/image?format=png&label=1&seed=7"
    assert page.code("curl") == f"curl -o 'styled-7.png' '{address}'"
    assert 'client.generate("styled", seeds=7, labels=1, format="png")[0]' in page.code("python")
    assert '"seeds":{"values":[7]},"labels":["1"]' in page.code("grpcurl")
    assert "at=7" in page.driver.current_url


def test_a_link_opens_what_it_was_made_of(page: Page) -> None:
    page.open("#model=styled&seed=20&count=9&label=2&psi=0.333&noise_seed=4&at=25")
    page.grid()
    page.until(lambda: page.at("caption").text.startswith("Seed 25: "))
    np.testing.assert_array_equal(page.pixels(), image_of(page, "seed=25&label=2&psi=0.333&noise_seed=4"))
    assert Select(page.at("label")).first_selected_option.text == "three"


def test_sliders_and_buttons_draw_anew(page: Page) -> None:
    page.open("#model=styled&seed=0&count=1")
    page.grid()
    before = page.pixels()
    page.driver.execute_script(
        'const psi = document.getElementById("psi"); psi.value = 0; psi.dispatchEvent(new Event("input"))'
    )
    page.until(lambda: not np.array_equal(page.pixels(), before))
    page.at("next").click()
    page.until(lambda: page.at("caption").text.startswith("Seed 1: "))
    page.at("play").click()
    page.until(lambda: int(page.at("seed").get_attribute("value")) >= 3)
    page.at("play").click()
    assert page.at("play").get_attribute("aria-pressed") == "false"


def test_directions_are_sliders(page: Page) -> None:
    page.open("#model=plain&seed=2&count=1&edit=jacobian-0:3")
    page.grid()
    page.until(lambda: page.at("caption").text.startswith("Seed 2: "))
    np.testing.assert_array_equal(page.pixels(), image_of(page, "seed=2&edit=0:3", "plain"))
    sliders = page.driver.find_elements(By.CSS_SELECTOR, "#directions input")
    assert [each.get_attribute("name") for each in sliders[:2]] == ["jacobian-0", "jacobian-1"]
    sliders[1].send_keys("\ue012")  # the left arrow
    wanted = image_of(page, "seed=2&edit=0:3&edit=1:-0.25", "plain")
    page.until(lambda: np.array_equal(page.pixels(), wanted))
    assert 'edits={"jacobian-0": 3, "jacobian-1": -0.25}' in page.code("python")
    page.at("straight").click()
    page.until(lambda: np.array_equal(page.pixels(), image_of(page, "seed=2", "plain")))


def test_a_link_has_directions_by_index_and_layers(page: Page) -> None:
    page.open("#model=plain&seed=2&count=1&edit=1:2&edit=0:-5.1")
    page.grid()
    assert "edit=jacobian-0:-5.1&edit=jacobian-1:2" in page.driver.current_url
    (edit,) = page.driver.execute_script(
        'return document.querySelectorAll("#directions input")[1].value'
        ' === "2" ? [document.querySelectorAll("#directions span")[1].textContent] : []'
    )
    assert edit == "jacobian-1 2"
    page.driver.execute_script('document.querySelectorAll("#directions input")[1].dataset.layers = "@0-1"')
    assert 'edits=[Edit("jacobian-0", -5.1, ""), Edit("jacobian-1", 2, "0-1")]' in page.code("python")
    assert "from ganserve import Client, Edit\n" in page.code("python")
    assert '"direction":"jacobian-1","strengths":[2],"layers":"0-1"' in page.code("grpcurl")


def test_an_image_is_enlarged_and_compared_with_what_was_sent(page: Page, tmp_path: Path) -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (10, 12, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "small.png")
    page.open("#model=up")
    page.until(lambda: page.at("file").is_displayed())
    page.at("file").send_keys(str(tmp_path / "small.png"))
    page.until(lambda: page.at("caption").text.startswith("Enlarged: 24 x 20 px"))
    np.testing.assert_array_equal(page.pixels("before"), pixels)
    Select(page.at("scale")).select_by_value("3")
    page.until(lambda: page.at("caption").text.startswith("Enlarged: 36 x 30 px"))
    page.driver.execute_script(
        'const split = document.getElementById("split-at"); split.value = 20; split.dispatchEvent(new Event("input"))'
    )
    assert "80%" in page.at("before").value_of_css_property("clip-path")
    assert ":upscale?format=png&scale=3'" in page.code("curl")


def test_images_are_turned_moved_and_drawn_towards_centres(page: Page) -> None:
    page.open("#model=alias&seed=3&count=1&label=1&psi=0.5&center=nearest&translate=0.125,0&rotate=-20")
    page.until(lambda: page.at("caption").text.startswith("Seed 3: "))
    query = "seed=3&label=1&psi=0.5&center=nearest&translate=.125,0&rotate=-20"
    np.testing.assert_array_equal(page.pixels(), image_of(page, query, "alias"))
    page.driver.execute_script(
        'const turn = document.getElementById("turn"); turn.value = 90; turn.dispatchEvent(new Event("input"))'
    )
    Select(page.at("center")).select_by_value("1")
    query = query.replace("-20", "90").replace("nearest", "1")
    wanted = image_of(page, query, "alias")
    page.until(lambda: np.array_equal(page.pixels(), wanted))
    said = 'truncation=0.5, truncation_center="1", translate=(0.125, 0), rotate=90'
    assert said in page.code("python")
    assert '"transforms":[{"translate_x":0.125,"translate_y":0,"rotate":90}]' in page.code("grpcurl")
    assert not page.at("center-idle").is_displayed()
    page.driver.execute_script(
        'const psi = document.getElementById("psi"); psi.value = 1; psi.dispatchEvent(new Event("input"))'
    )
    page.until(lambda: page.at("center-idle").is_displayed())
    wanted = image_of(page, query.replace("psi=0.5&center=1", "psi=1"), "alias")
    page.until(lambda: np.array_equal(page.pixels(), wanted))
    assert "center=1" in page.driver.current_url, "it is there again at another psi"


def test_the_best_of_several_is_shown_where_there_is_a_critic(page: Page) -> None:
    page.open("#model=styled&seed=5&count=1&label=1")
    page.grid()
    Select(page.at("best-of")).select_by_visible_text("4")
    page.until(lambda: "the best of 4, above " in page.at("caption").text)
    np.testing.assert_array_equal(page.pixels(), image_of(page, "seed=5&label=1&best_of=4"))
    assert 'seeds=5, labels=1, best_of=4, format="png"' in page.code("python")
    assert '"best_of":4' in page.code("grpcurl")
    assert "best_of=4" in page.driver.current_url
    Select(page.at("model")).select_by_value("plain")
    page.grid()
    assert not page.at("choice").is_displayed()
    listed = [option.text for option in Select(page.at("model")).options]
    assert listed == ["alias", "hair", "plain", "styled", "translate", "up"], "none that is served as tensors only"


def test_playing_goes_from_seed_to_seed_by_way_of_what_is_between(page: Page) -> None:
    page.open("#model=plain&seed=2&count=1")
    page.grid()
    seen = set()

    def is_far() -> bool:
        seen.add(page.pixels().tobytes())
        return int(page.at("seed").get_attribute("value")) >= 3 and len(seen) > 2

    page.at("play").click()
    page.until(is_far)
    page.at("play").click()
    seed = page.at("seed").get_attribute("value")
    page.until(lambda: np.array_equal(page.pixels(), image_of(page, f"seed={seed}", "plain")))


def test_attributes_of_a_translator_are_boxes(page: Page, tmp_path: Path) -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (16, 16, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "face.png")
    page.open("#model=hair")
    boxes = page.until(lambda: page.driver.find_elements(By.CSS_SELECTOR, "#attribute-list input"))
    page.at("file").send_keys(str(tmp_path / "face.png"))
    page.until(lambda: page.at("caption").text.startswith("Translated: "))
    without = page.pixels()
    boxes[1].click()
    page.until(lambda: not np.array_equal(page.pixels(), without))
    assert ":translate?format=png&labels=1'" in page.code("curl")
    assert 'labels=["1"]' in page.code("python")


def test_a_drawing_is_translated(page: Page) -> None:
    page.open("#model=translate")
    canvas = page.until(lambda: page.at("canvas").is_displayed() and page.at("canvas"))
    ActionChains(page.driver).move_to_element(canvas).click_and_hold().move_by_offset(30, 20).release().perform()
    page.until(lambda: page.at("caption").text.startswith("Translated: "))
    sent = page.pixels("before")
    assert (sent == 255).any()
    assert (sent == 0).any()
    page.at("invert").click()
    page.until(lambda: np.array_equal(page.pixels("before"), 255 - sent))


def test_what_the_server_refuses_is_said(page: Page, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    page.open("#model=up")
    page.until(lambda: page.at("file").is_displayed())
    page.at("file").send_keys(str(tmp_path / "broken.png"))
    page.until(lambda: "must be PNG, JPEG or WebP" in page.at("problem").text)
    assert ["400" in each for each in wrong_in(page.driver)] == [True], "the refused request"


@pytest.mark.parametrize("width", [360, 1440])
def test_it_fits_and_everything_has_a_name(page: Page, width: int) -> None:
    for fragment in ("#model=styled&label=1", "#model=up", "#model=translate"):
        page.open(fragment, width)
        page.until(lambda: page.at("about").text)
        assert page.driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert page.driver.execute_script(NAMELESS) == []


def test_with_api_keys_the_page_asks_for_one(chromium: webdriver.Chrome, repository: Path, tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.toml", {"web": 'roles = ["infer"]'})
    with running(repository, "--device", "cpu", "--host", "127.0.0.1", "--api-keys", str(keys)) as server:
        page = Page(chromium, f"http://127.0.0.1:{server.ready['rest_port']}")
        page.open("#model=up")
        page.until(lambda: "key" in page.at("problem").text)
        page.at("key").send_keys("web-secret\t")
        page.until(lambda: page.at("file").is_displayed())
        Image.new("RGB", (4, 4)).save(tmp_path / "small.png")
        page.at("file").send_keys(str(tmp_path / "small.png"))
        page.until(lambda: page.at("caption").text.startswith("Enlarged: "))
        assert "web-secret" not in page.code("curl")
        assert "$GANSERVE_API_KEY" in page.code("curl")
        chromium.execute_script("sessionStorage.clear()")
        assert all("401" in each for each in wrong_in(chromium))
