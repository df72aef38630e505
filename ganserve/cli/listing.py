"""`ganserve models`: what a running server has."""

from dataclasses import asdict

from ganserve.cli.connect import DEADLINE_S, SERVER, AuthorityOption, DeadlineOption, JsonOption, ServerOption, connect
from ganserve.cli.output import print_json, print_table
from ganserve.results import ServedModel


def models(
    server: ServerOption = SERVER,
    deadline: DeadlineOption = DEADLINE_S,
    ca: AuthorityOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lists what the server has, with state and versions."""
    with connect(server, deadline, ca) as client:
        found = client.models()
    if as_json:
        print_json([asdict(model) for model in found])
        return
    headers = ("name", "version", "state", "task", "architecture", "picture", "classes", "batch", "reason")
    print_table(headers, [_row(model) for model in found])


def _row(model: ServedModel) -> tuple[object, ...]:
    size = f"{model.width}x{model.height}" if model.width else f"x{model.scale}" if model.scale else ""
    classes = len(model.labels) or ""
    task = model.task or "tensors"
    return (
        model.name, model.version, model.state, task, model.architecture, size, classes, model.max_batch_size,
        model.reason,
    )  # fmt: skip
