"""Faces in a real photograph, turned, mirrored, enlarged, repeated and cut, and none where there is none."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ganserve.faces import detect
from ganserve.faces.detect import Detector, Face

# Of the astronaut, read off an enlarged copy: pupils, tip of the nose, corners of the mouth.
LANDMARKS = np.array([(54, 50.5), (76.5, 51.5), (65, 63.5), (54, 70), (74, 71)])
MIRRORED = [1, 0, 2, 4, 3]  # the other eye is on the left then
Points = NDArray[np.float64]


def only(faces: list[Face]) -> Points:
    assert len(faces) == 1
    assert faces[0].score > 0.95
    return faces[0].landmarks


def distance(found: Points, wanted: Points) -> float:
    """The largest, in widths between the eyes."""
    return float(np.linalg.norm(found - wanted, axis=1).max() / np.linalg.norm(wanted[1] - wanted[0]))


def test_landmarks_are_on_eyes_nose_and_mouth(detector: Detector, astronaut: Image.Image) -> None:
    assert distance(only(detector.find(astronaut)), LANDMARKS) < 0.1
    mirrored = only(detector.find(astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))[MIRRORED]
    assert distance(np.abs((128, 0) - mirrored), LANDMARKS) < 0.1


@pytest.mark.parametrize("scale", [0.5, 3])
def test_a_face_is_found_at_any_size(detector: Detector, astronaut: Image.Image, scale: float) -> None:
    resized = astronaut.resize((round(128 * scale),) * 2, Image.Resampling.LANCZOS)
    assert distance(only(detector.find(resized)), LANDMARKS * scale) < 0.15
    assert detector.find(resized, least_px=round(80 * scale)) == []


@pytest.mark.parametrize("degrees", [-40, 40])
def test_a_face_that_leans_is_seen_upright(detector: Detector, astronaut: Image.Image, degrees: float) -> None:
    turned = astronaut.rotate(degrees, Image.Resampling.BICUBIC)
    angle = math.radians(-degrees)
    turn = np.array([(math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))])
    assert distance(only(detector.find(turned)), (LANDMARKS - 64) @ turn.T + 64) < 0.15


def test_every_face_of_a_group_is_found_once(
    detector: Detector, astronaut: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Image.new("RGB", (450, 280), (90, 110, 130))
    corners = [(x, y) for y in (0, 150) for x in (0, 150, 310)]
    for corner in corners:
        group.paste(astronaut, corner)
    faces = detector.find(group)
    assert len(faces) == len(corners)
    for corner in corners:
        assert min(distance(face.landmarks - corner, LANDMARKS) for face in faces) < 0.15
    monkeypatch.setattr(detect, "BAND_PX", 5000)  # P-Net sees the image in many bands, and the same in all
    banded = detector.find(group)
    np.testing.assert_allclose([face.landmarks for face in banded], [face.landmarks for face in faces], atol=1e-3)


def test_a_face_that_the_image_cuts_off_is_found(detector: Detector, astronaut: Image.Image) -> None:
    left = only(detector.find(astronaut.crop((50, 0, 128, 128))))
    assert distance(left, LANDMARKS - (50, 0)) < 0.15


def test_where_no_face_is_none_is_found(detector: Detector, astronaut: Image.Image) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    for image in (Image.fromarray(noise), astronaut.crop((0, 80, 128, 128))):
        assert detector.find(image) == []
    for size in ((1, 1), (11, 300), (12, 12), (300, 12)):
        assert detector.find(Image.new("RGB", size)) == []
