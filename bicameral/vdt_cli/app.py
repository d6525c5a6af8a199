"""`bicameral vdt`: a video diffusion transformer, from raw films to a net that generates."""

from __future__ import annotations

import typer

from bicameral.vdt_cli.data import app as data
from bicameral.vdt_cli.eval import evaluate
from bicameral.vdt_cli.sample import sample
from bicameral.vdt_cli.surprise import surprise
from bicameral.vdt_cli.train import train

app = typer.Typer(
    no_args_is_help=True, help="Train a video diffusion transformer of your own, and look at it."
)
app.command()(train)
app.command()(sample)
app.command("eval")(evaluate)
app.command()(surprise)
app.add_typer(data, name="data")
