"""README.md's section "By hand" works when pasted into a shell in an empty folder, line by line.

Two commands have a stand-in, because they need the network: `git clone` makes a folder with links to this checkout, and
`pip install` puts the packages of the environment that runs the tests into the virtual environment, which is a real
one. The third-party weights of `faces` are fetched before, unless they are in the cache. The rest runs as it stands,
with the ports that it names, in a network namespace of its own.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import tritonclient.grpc as triton
from PIL import Image

from artifact.repository import read_manifest
from tests.docs.pages import ROOT, first_cells
from tests.serving import running

README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LIMIT_S = 300.0
NAMESPACE = ("unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child")  # ends the server too
LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40
request = struct.pack("16sh", b"lo", IFF_UP | IFF_RUNNING)
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), SIOCSIFFLAGS, request)
os.execvp(sys.argv[1], sys.argv[1:])
"""
LINKED = ("artifact", "export", "ganserve", "models", "protos", "pyproject.toml", "README.md", "server")
STAND_INS = f"""
git() {{
  test "$1" = clone && mkdir ganserve && for each in {" ".join(LINKED)}; do ln -s "{ROOT}/$each" ganserve/; done
}}
pip() {{
  test "$1 $2" = "install --editable" && test "$VIRTUAL_ENV" = "$PWD/.venv"
  printf '%s\\n' "$PWD" {Path(jsonschema.__file__).parents[1]} > "$(echo .venv/lib/python3*/site-packages)/tests.pth"
  cat > .venv/bin/ganserve <<EOF
#!$PWD/.venv/bin/python
from {PROJECT["scripts"]["ganserve"].replace(":", " import ")} as main
raise SystemExit(main())
EOF
  chmod +x .venv/bin/ganserve
}}
"""


def section(title: str) -> str:
    """From the heading to the next of its level."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def script() -> str:
    """The section's blocks in their order; Python as a here-document."""
    blocks = re.findall(r"```(\w+)\n(.*?)```", section("By hand"), re.DOTALL)
    assert [language for language, _ in blocks] == ["sh", "python", "python", "sh", "sh"]
    return "\n".join(text if language == "sh" else f"python <<'END'\n{text}END\n" for language, text in blocks)


@dataclass(frozen=True)
class Pasted:
    """What the section left behind: the folder that it changed to, and what it printed."""

    folder: Path
    output: str


@pytest.fixture(scope="module")
def pasted(needs_curl: None, tmp_path_factory: pytest.TempPathFactory) -> Pasted:
    here = Path(sys.executable).parent
    kept = {name: os.environ[name] for name in ("HOME", "XDG_CACHE_HOME") if name in os.environ}
    environment = {"PATH": f"{here}:/usr/local/bin:/usr/bin:/bin", **kept}
    subprocess.run([sys.executable, "-m", "ganserve", "zoo", "pull", "faces"], cwd=ROOT, check=True)
    folder = tmp_path_factory.mktemp("empty")
    done = subprocess.run(
        [*NAMESPACE, sys.executable, "-c", LOOPBACK_UP, "bash", "-ec", STAND_INS + script()],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return Pasted(folder / "ganserve", done.stdout)


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.mark.slow
def test_the_ensemble_of_the_triton_page_serves_in_that_repository(pasted: Pasted) -> None:
    text = (ROOT / "docs" / "triton.md").read_text()
    config = re.findall(r"```\n(platform: \"ensemble\"\n.*?)```", text, re.DOTALL)[0]
    repository = pasted.folder / "repository"
    (repository / "large-faces").mkdir()
    (repository / "large-faces" / "config.pbtxt").write_text(config)
    given = triton.InferInput("LATENT", [4, 100], "FP32")
    given.set_data_from_numpy(np.random.RandomState(0).randn(4, 100).astype(np.float32))
    with (
        running(repository, "--load-model", "large-faces") as server,
        triton.InferenceServerClient(server.address) as client,
    ):
        assert client.infer("large-faces", [given]).as_numpy("LARGE_FACE").shape == (4, 256, 256, 3)


@pytest.mark.slow
def test_the_section_pasted_into_a_shell_makes_its_images(pasted: Pasted) -> None:
    sizes = {path.name: size_of(path) for path in pasted.folder.glob("*.png")}
    assert sizes.pop("faces.png") > (4 * 64, 4 * 64)
    assert sizes.pop("digits.png") > (28, 28)
    large = {"large.png": (256, 256), "large-4.png": (256, 256)}
    small = dict.fromkeys(("face.png", "first.png", "edited.png"), (64, 64))
    assert sizes == {**small, **large}
    assert size_of(pasted.folder / "large.webp") == (256, 256)
    for printed in ("(256, 256, 3)\n", "(4, 64, 64, 3)\n", "faces 1 READY", "stopped"):
        assert printed in pasted.output, pasted.output


@pytest.mark.slow
def test_the_manifests_of_its_models_fit_the_schema(pasted: Pasted) -> None:
    schema = json.loads((ROOT / "docs" / "manifest.schema.json").read_text())
    versions = [pasted.folder / "repository" / name / "1" for name in ("faces", "faces-srgan", "digits")]
    for version in versions:
        jsonschema.validate(json.loads((version / "manifest.json").read_text()), schema)
        assert read_manifest(version) is not None


def test_the_table_of_extras_is_that_of_the_project() -> None:
    listed = {cell.strip(" `") for cell in first_cells(section("Which extras do I need?"))}
    assert listed == set(PROJECT["optional-dependencies"]) - {"server"}  # which `cpu` and `cuda` bring
