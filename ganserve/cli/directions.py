"""`ganserve directions`: what a generator's images can be edited along."""

from dataclasses import asdict

from ganserve.cli.connect import (
    DEADLINE_S,
    SERVER,
    ApiKeyOption,
    AuthorityOption,
    DeadlineOption,
    JsonOption,
    ServerOption,
    connect,
)
from ganserve.cli.files import ModelArgument, VersionOption
from ganserve.cli.output import print_json, print_table


def directions(
    model: ModelArgument,
    version: VersionOption = "",
    server: ServerOption = SERVER,
    deadline: DeadlineOption = DEADLINE_S,
    ca: AuthorityOption = None,
    api_key_file: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lists the directions of a generator's latent space, which `generate --edit` takes by name or index."""
    with connect(server, deadline, ca, api_key_file) as client:
        found = client.directions(model, version=version)
    if as_json:
        print_json([asdict(each) for each in found])
        return
    if not found:
        print(f"{model} has no directions; `ganserve export --directions` finds them")
        return
    rows = [
        (each.index, each.name, each.kind, each.space, each.layers if each.space == "w" else "-", f"{each.sigma:.3g}")
        for each in found
    ]
    print_table(["index", "name", "kind", "space", "layers", "sigma"], rows)
