"""`python -m training RECIPE`: trains one of the zoo's generators."""

import typer

from training.commands.digits import digits
from training.commands.digits_gan import digits_gan
from training.commands.digits_lapgan import digits_lapgan
from training.commands.digits_wgan_gp import digits_wgan_gp
from training.commands.emoji_cyclegan import emoji_cyclegan
from training.commands.emoji_judge import judge_emoji
from training.commands.emoji_pix2pix import emoji_pix2pix
from training.commands.emoji_stylegan2 import emoji_stylegan2
from training.commands.faces_srgan import faces_srgan

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def recipes() -> None:
    """Trains the zoo's small generators; each recipe ends in a checkpoint, a model card and a sample grid in --out."""


# A recipe: a function in training/commands and one line here, by the name its generator has in the zoo.
app.command("digits", epilog="Example: python -m training digits --epochs 5 --seed 0 --out out/digits")(digits)
app.command("digits-gan", epilog="Example: python -m training digits-gan --epochs 22 --out out/gan")(digits_gan)
app.command("digits-lapgan", epilog="Example: python -m training digits-lapgan --epochs 6 --out out/lapgan")(
    digits_lapgan
)
app.command("digits-wgan-gp", epilog="Example: python -m training digits-wgan-gp --epochs 5 --out out/wgan-gp")(
    digits_wgan_gp
)
app.command("emoji-judge", epilog="Example: python -m training emoji-judge --out out/judge")(judge_emoji)
app.command("emoji-pix2pix", epilog="Example: python -m training emoji-pix2pix --epochs 16 --out out/pix2pix")(
    emoji_pix2pix
)
app.command("emoji-cyclegan", epilog="Example: python -m training emoji-cyclegan --epochs 8 --out out/cyclegan")(
    emoji_cyclegan
)
app.command("emoji-stylegan2", epilog="Example: python -m training emoji-stylegan2 --epochs 21 --out out/stylegan2")(
    emoji_stylegan2
)
app.command("faces-srgan", epilog="Example: python -m training faces-srgan --epochs 3 --out out/faces-srgan")(
    faces_srgan
)

if __name__ == "__main__":
    app(prog_name="python -m training")
