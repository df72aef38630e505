"""Images say that a network made them: in every format, by every way out, and signed where that is wanted."""

import asyncio
import io
import json
import urllib.request
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from tritonclient.grpc.model_config_pb2 import ModelConfig

from ganserve import AsyncClient
from ganserve.cli.main import main
from ganserve.client.results import GeneratedImage
from server.environment import read_settings
from server.errors import NotServing, StartError
from server.images.header import Format
from server.images.marking import Marking, Source, marked
from server.images.metadata.block import Metadata
from server.repository.marks import read_mark
from tests.server.conftest import Running, Start
from tests.server.graphs import write_styled, write_translator, write_upscaler

MADE, CHANGED = f'DigitalSourceType="{Source.GENERATED}"'.encode(), f'DigitalSourceType="{Source.CHANGED}"'.encode()
PARAMETER = '\nparameters {{ key: "mark" value {{ string_value: "{}" }} }}\n'
PIXELS = np.random.RandomState(0).randint(0, 255, (16, 16, 3), np.uint8)
PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="a house" %b/>'
    b"</rdf:RDF></x:xmpmeta>"
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    write_styled(root, "styled")
    write_upscaler(root, "big")
    write_translator(root, "other")
    write_styled(root, "plain")
    set_mark(root, "plain", "none")
    return root


def set_mark(repository: Path, model: str, mark: str) -> None:
    with (repository / model / "config.pbtxt").open("a") as file:
        file.write(PARAMETER.format(mark))


def packet_of(data: bytes) -> bytes:
    """The XMP of an image, as Pillow finds it."""
    with Image.open(io.BytesIO(data)) as image:
        found = image.info.get("xmp", b"")
    return bytes(found)


def png_with(packet: bytes) -> bytes:
    texts, output = PngImagePlugin.PngInfo(), io.BytesIO()
    texts.add_itxt("XML:com.adobe.xmp", packet.decode())
    Image.fromarray(PIXELS).save(output, "PNG", pnginfo=texts)
    return output.getvalue()


async def get(running: Running, path: str, **headers: str) -> tuple[bytes, Mapping[str, str]]:
    address = f"http://127.0.0.1:{running.serving.rest_port}{path}"

    def read() -> tuple[bytes, Mapping[str, str]]:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
            return answer.read(), answer.headers

    return await asyncio.to_thread(read)


@pytest.fixture
async def running(start: Start) -> Running:
    return await start(mark="xmp")


@pytest.fixture
async def client(running: Running) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(running.target) as client:
        yield client


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
async def test_every_way_out_marks_images_and_leaves_their_pixels(
    running: Running, client: AsyncClient, format: Any, tmp_path: Path
) -> None:
    (made,) = await client.generate("styled", seeds=7, labels="one", format=format)
    (bare,) = await client.generate("plain", seeds=7, labels="one", format=format)
    streamed = [each async for each in client.generate_stream("styled", seeds=[7], labels="one", format=format)]
    stepped = await client.generate("styled", seeds=7, labels="one", format=format, then=["other"])
    for image in (made, *streamed, *stepped):
        assert packet_of(image.data).count(MADE) == 1
    assert not packet_of(bare.data)
    assert np.array_equal(made.array, bare.array)
    assert streamed[0].data == made.data, "the same bytes each time"
    for changed in (
        await client.upscale("big", PIXELS, format=format), await client.translate("other", PIXELS, format=format)
    ):  # fmt: skip
        assert packet_of(changed.data).count(CHANGED) == 1
    address = f"/v1/models/styled/image?seed=7&label=one&format={format}"
    data, headers = await get(running, address)
    _, plain = await get(running, address.replace("styled", "plain"))
    assert data == made.data
    assert headers["ETag"] != plain["ETag"]
    for suffix in (".png", ".webp", ".jpg"):  # the same bytes, and encoded again
        path = tmp_path / f"saved{suffix}"
        made.save(path)
        assert packet_of(path.read_bytes()).count(MADE) == 1


async def test_the_mark_changes_the_tag_of_an_address(start: Start, repository: Path) -> None:
    tags = set()
    for mark in ("none", "xmp"):
        running = await start(mark=mark)
        _, headers = await get(running, "/v1/models/styled/image?seed=7&label=one")
        tags.add(headers["ETag"])
    assert len(tags) == 2


@pytest.mark.parametrize("policy", ["keep", "strip"])
async def test_what_a_kept_packet_says_stays_but_not_where_it_is_from(client: AsyncClient, policy: Any) -> None:
    for said in (b'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"', b""):
        sent = png_with(PACKET % said)
        found = packet_of((await client.upscale("big", sent, metadata=policy)).data)
        assert (b"a house" in found) == (policy == "keep")
        assert found.count(CHANGED) == found.count(b"DigitalSourceType") == 1
    network = f'Iptc4xmpExt:DigitalSourceType="{Source.GENERATED}"'.encode()
    found = packet_of((await client.upscale("big", png_with(PACKET % network), metadata=policy)).data)
    assert found.count(MADE) == found.count(b"DigitalSourceType") == 1, "a network made all of it"


def test_a_packet_too_long_for_a_jpegs_segment_makes_room_for_the_mark() -> None:
    long = Metadata(xmp=PACKET % (b'dc:title="' + b"x" * 65_100 + b'"'))
    kept = marked(long, Marking(Source.CHANGED), Format.PNG)
    assert b"xxx" in kept.xmp
    assert CHANGED in kept.xmp
    kept = marked(long, Marking(Source.CHANGED), Format.JPEG)
    assert (b"xxx" in kept.xmp, b"xxx" in kept.xmp_more) == (False, True)
    assert CHANGED in kept.xmp
    element = b"<p:DigitalSourceType>http://example.org/else</p:DigitalSourceType>"
    kept = marked(Metadata(xmp=b"<rdf:RDF>" + element + b"</rdf:RDF>"), Marking(Source.CHANGED), Format.WEBP)
    assert b"else" not in kept.xmp
    assert kept.xmp.count(b"DigitalSourceType") == 1


async def test_raw_pixels_hold_no_mark(client: AsyncClient) -> None:
    (made,) = await client.generate("styled", seeds=7, labels="one", format="raw")
    assert len(made.data) == made.array.size


def test_a_models_mark_is_checked_when_it_is_loaded() -> None:
    def config(value: str) -> ModelConfig:
        found = ModelConfig()
        found.parameters["mark"].string_value = value
        return found

    settings = read_settings(repository=".", mark="xmp")
    assert [read_mark(each, settings).name for each in (None, ModelConfig(), config("none"))] == ["XMP", "XMP", "NONE"]
    with pytest.raises(NotServing, match="parameter mark 'on' is not supported; none, xmp, c2pa are"):
        read_mark(config("on"), settings)
    with pytest.raises(NotServing, match="c2pa: the server has no c2pa_certificate"):
        read_mark(config("c2pa"), settings)


def verified(data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """What `ganserve verify` says of a file by itself."""
    (file := tmp_path / "image").write_bytes(data)
    code = main(["verify", str(file)])
    told = capsys.readouterr()
    return code, told.out + told.err


async def test_the_command_shows_what_a_file_says_of_itself(
    start: Start, signer: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = await start(**signer)
    async with AsyncClient(running.target) as client:
        for format in ("png", "jpeg", "webp"):
            (made,) = await client.generate("styled", seeds=7, labels="one", format=format)
            code, told = verified(made.data, tmp_path, capsys)
            assert (code, "a network made it (trainedAlgorithmicMedia); signed (C2PA), by whom" in told) == (0, True)
        changed = bytearray(made.data)
        changed[-40] ^= 1
        code, told = verified(bytes(changed), tmp_path, capsys)
        assert (code, "its C2PA signature is not valid" in told) == (2, True)
        torn = made.data.replace(b"jumd", b"jumx")
        assert torn != made.data
        assert "not valid" in verified(torn, tmp_path, capsys)[1]
        (bare,) = await client.generate("plain", seeds=7, labels="one")
    assert verified(bare.data, tmp_path, capsys)[0] == 2
    assert main(["verify", str(tmp_path / "image"), "--seeds", "0-9"]) == 2
    assert "need a model" in capsys.readouterr().err
    code, told = verified(
        png_with(
            PACKET
            % CHANGED.replace(
                b"DigitalSourceType", b'xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" i:DigitalSourceType'
            )
        ),
        tmp_path,
        capsys,
    )
    assert (code, "(compositeWithTrainedAlgorithmicMedia); not signed" in told) == (0, True)


@pytest.mark.parametrize("frontend", ["native"])
async def test_a_server_that_could_not_sign_does_not_start(start: Start, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="mark c2pa: set c2pa_certificate and c2pa_key"):
        await start(mark="c2pa")
    with pytest.raises(StartError, match="one is set without the other"):
        await start(c2pa_certificate=tmp_path / "a.pem")
    pytest.importorskip("c2pa")
    (tmp_path / "a.pem").write_text("no certificate")
    with pytest.raises(StartError, match=r"b.key: No such file"):
        await start(c2pa_certificate=tmp_path / "a.pem", c2pa_key=tmp_path / "b.key")
    with pytest.raises(StartError, match=r"they cannot sign \(.+\); C2PA wants the PEM chain of a certificate"):
        await start(c2pa_certificate=tmp_path / "a.pem", c2pa_key=tmp_path / "a.pem")


def manifest_of(data: bytes, media_type: str) -> dict[str, Any]:
    """The active manifest, which c2pa's own reader finds valid."""
    c2pa = pytest.importorskip("c2pa")
    reader = c2pa.Reader(media_type, io.BytesIO(data))
    assert reader.get_validation_state() == "Valid"
    store = json.loads(reader.json())
    problems = {each["code"] for each in store.get("validation_status", [])}
    assert problems == {"signingCredential.untrusted"}, "the root is our own"
    found: dict[str, Any] = store["manifests"][store["active_manifest"]]
    return found


def said_by(manifest: dict[str, Any]) -> tuple[list[str], str]:
    (assertion,) = [each for each in manifest["assertions"] if each["label"].startswith("c2pa.actions")]
    actions = assertion["data"]["actions"]
    return [each["action"] for each in actions], next(
        each["digitalSourceType"] for each in actions if "digitalSourceType" in each
    )


@pytest.fixture
def signer(tmp_path: Path) -> dict[str, Any]:
    """Settings of a server that signs."""
    pytest.importorskip("c2pa")
    from tests.server.api.certificates import write_signer

    certificate, key = write_signer(tmp_path)
    return {"mark": "c2pa", "c2pa_certificate": certificate, "c2pa_key": key}


async def test_signed_images_are_valid_to_c2pas_own_reader(start: Start, signer: dict[str, Any]) -> None:
    running = await start(**signer)
    async with AsyncClient(running.target) as client:
        made: list[GeneratedImage] = []
        formats: tuple[Any, ...] = ("png", "jpeg", "webp")
        for format in formats:
            made += await client.generate("styled", seeds=7, labels="one", format=format)
        made += [each async for each in client.generate_stream("styled", seeds=[7], labels="one")]
        for image in made:
            manifest = manifest_of(image.data, f"image/{image.format}")
            assert said_by(manifest) == (["c2pa.created"], Source.GENERATED)
            assert "thumbnail" not in manifest
            assert packet_of(image.data).count(MADE) == 1
        upscaled = await client.upscale("big", made[0].data)
        manifest = manifest_of(upscaled.data, "image/png")
        actions, source = said_by(manifest)
        assert (actions[-1], source) == ("c2pa.edited", Source.GENERATED)
        assert [each["relationship"] for each in manifest["ingredients"]] == ["parentOf"]
        assert manifest["ingredients"][0]["active_manifest"], "what the image brought is kept"
        whole = await client.upscale_stream("big", PIXELS, format="png")
        actions, source = said_by(manifest_of(whole.data, "image/png"))
        assert (actions[-1], source) == ("c2pa.created", Source.CHANGED), "raw pixels are no ingredient"
        (bare,) = await client.generate("plain", seeds=7, labels="one")
        assert np.array_equal(bare.array, made[0].array)


@pytest.mark.parametrize("frontend", ["native"])
async def test_kept_images_are_signed_on_their_way_out(start: Start, signer: dict[str, Any]) -> None:
    running = await start(**signer)
    address = "/v1/models/styled/image?seed=7&label=one"
    answers = [await get(running, address) for _ in range(2)]
    assert ["hit" in headers["Cache-Status"] for _, headers in answers] == [False, True]
    assert answers[0][0] != answers[1][0], "each signature is another"
    assert {headers["ETag"][:2] for _, headers in answers} == {"W/"}, "the bytes are not the same"
    for data, _ in answers:
        manifest_of(data, "image/png")


@pytest.mark.parametrize("frontend", ["native"])
async def test_a_renewed_certificate_is_read_and_a_broken_one_is_not_used(start: Start, signer: dict[str, Any]) -> None:
    from tests.server.api.certificates import write_signer

    folder = signer["c2pa_certificate"].parent
    running = await start(**signer)
    async with AsyncClient(running.target) as client:

        async def signed_by() -> str:
            (made,) = await client.generate("styled", seeds=7, labels="one")
            return str(manifest_of(made.data, "image/png")["signature_info"]["issuer"])

        assert await signed_by() == "signer"
        certificate, key = write_signer(folder, "renewed")
        key.replace(signer["c2pa_key"])
        assert await signed_by() == "signer", "the key is not the certificate's"
        certificate.replace(signer["c2pa_certificate"])
        assert await signed_by() == "renewed"
