"""The built wheel, installed into an empty environment, works next to other people's packages of our folders' names."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from PIL import Image

from models.zoo.entries import ENTRIES
from models.zoo.fetch import WEIGHTS
from tests.serving import ServerProcess, serve_command

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
FOREIGN = ("artifact", "bench", "demo", "export", "models", "protos", "server", "tests", "training")
RAISE = "raise ImportError(f'the foreign {__name__} was imported')\n"
# Modules of our names that something imported before the command starts, with one below them.
IMPORTED_BEFORE = """
import sys, types
for name in ("artifact", "export", "models", "models.zoo", "server"):
    sys.modules[name] = types.ModuleType(name)
"""
CLIENT_NEEDS = {"PIL", "ganserve", "google", "grpc", "numpy"}
MODULES = """
import sys
import google.protobuf, grpc, numpy, PIL  # and what they import
before = set(sys.modules)
from ganserve import AsyncClient, Client
import ganserve
print(ganserve.__file__)
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))
"""


@dataclass(frozen=True)
class Way:
    """One way to start the command; `words` follow the environment's bin folder."""

    words: tuple[str, ...]
    folder: str
    pythonpath: str | None = None

    def __str__(self) -> str:
        before = f"PYTHONPATH={self.pythonpath} " if self.pythonpath else ""
        return f"{before}{' '.join(self.words)} in {self.folder}"


SCRIPT, MODULE, SAFE = ("ganserve",), ("python", "-m", "ganserve"), ("python", "-P", "-m", "ganserve")
WAYS = [
    Way(words, folder, pythonpath)
    for words in (SCRIPT, MODULE, SAFE)
    for folder, pythonpath in (("foreign", None), ("foreign", "."), ("imported-before", "."))
]
HARDEST = Way(SCRIPT, "imported-before", ".")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder `direct` with the wheels built from the checkout, `by-sdist` with those built from their sdists."""
    folder = tmp_path_factory.mktemp("dist")
    for project in (ROOT, ROOT / "models/zoo/weights"):
        build = [sys.executable, "-m", "build", "--no-isolation"]
        for options in (["--wheel", "--outdir", str(folder / "direct")], ["--outdir", str(folder / "by-sdist")]):
            done = subprocess.run([*build, *options, str(project)], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
    return folder


@dataclass(frozen=True)
class Installed:
    """An environment with the wheels, and folders full of foreign packages to run from."""

    bin: Path
    folders: Path

    def command(self, way: Way, *arguments: str) -> list[str]:
        return [str(self.bin / way.words[0]), *way.words[1:], *arguments]

    def environment(self, way: Way) -> dict[str, str]:
        """Nothing of this test's own."""
        variables = {"PATH": os.defpath, "HOME": str(self.folders), "OMP_NUM_THREADS": "1"}
        return variables if way.pythonpath is None else {**variables, "PYTHONPATH": way.pythonpath}

    def run(self, way: Way, *arguments: str) -> str:
        """What it prints on stdout; it must succeed."""
        done = subprocess.run(
            self.command(way, *arguments),
            cwd=self.folders / way.folder,
            env=self.environment(way),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{way}: {done.stderr}"
        return done.stdout


def make_environment(folder: Path) -> Path:
    """An empty environment that finds the libraries installed here, but not our checkout; its bin folder.

    Folders in a .pth file are added as they are: the .pth files inside them, such as that of our editable install, are
    not read.
    """
    venv.create(folder, symlinks=True, with_pip=False)
    (packages,) = folder.glob("lib/python3*/site-packages")
    libraries = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "libraries.pth").write_text("".join(f"{path}\n" for path in libraries))
    write_foreign(packages / "server")
    return folder / "bin"


def install(binaries: Path, *arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(binaries / "python"), "install", "--quiet", "--no-index"]
    pip += ["--no-deps", "--no-build-isolation", "--root-user-action", "ignore"]
    done = subprocess.run([*pip, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def write_foreign(package: Path) -> None:
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(RAISE)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds `foreign`, other people's packages of our names, and `imported-before`, where they are imported already."""
    folder = tmp_path_factory.mktemp("folders")
    for name in ("foreign", "imported-before"):
        for package in FOREIGN:
            write_foreign(folder / name / package)
    (folder / "imported-before" / "sitecustomize.py").write_text(IMPORTED_BEFORE)
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path, folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    binaries = make_environment(tmp_path_factory.mktemp("wheel") / "venv")
    install(binaries, *(str(path) for path in (dist / "direct").glob("*.whl")))
    return Installed(binaries, folders)


def wheel(folder: Path, name: str) -> zipfile.ZipFile:
    (path,) = folder.glob(f"{name}-[0-9]*.whl")
    return zipfile.ZipFile(path)


def metadata(archive: zipfile.ZipFile) -> Message:
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_puts_one_name_into_site_packages_and_has_no_weights(dist: Path) -> None:
    with wheel(dist / "direct", "ganserve") as archive:
        assert {name.partition("/")[0] for name in archive.namelist()} == {"ganserve", "ganserve-0.1.0.dist-info"}
        below = {Path(name).parts[2] for name in archive.namelist() if name.startswith("ganserve/application/")}
        assert below == {"artifact", "export", "models", "server"}
        assert "ganserve/py.typed" in archive.namelist()
        assert "ganserve/application/export/pictures/astronaut.png" in archive.namelist()
        assert not [name for name in archive.namelist() if name.endswith((".onnx", ".safetensors", ".pyc"))]
        assert Path(str(archive.filename)).stat().st_size < 1.5e6  # all of it text
        facts = metadata(archive)
    assert (facts["Name"], facts["License-Expression"]) == ("ganserve", "Apache-2.0")
    assert "Typing :: Typed" in facts.get_all("Classifier", [])
    assert not [name for name in facts.get_all("Requires-Dist", []) if "torch" in name and "extra ==" not in name]


def test_the_weights_are_a_distribution_of_their_own_with_their_licences(dist: Path) -> None:
    files = [path for path in WEIGHTS.iterdir() if path.suffix in (".onnx", ".safetensors")]
    own = {f"ganserve_zoo_weights/{path.name}" for path in files}  # discriminators and judges too
    assert own >= {f"ganserve_zoo_weights/{entry.checkpoint}" for entry in ENTRIES.values() if entry.package is None}
    with wheel(dist / "direct", "ganserve_zoo_weights") as archive:
        top = "ganserve_zoo_weights-0.1.0.dist-info"
        assert {name for name in archive.namelist() if not name.startswith(top)} == {
            *own,
            "ganserve_zoo_weights/__init__.py",
        }
        assert archive.read(f"{top}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        notice = archive.read(f"{top}/licenses/NOTICE").decode()
    assert all(data in notice for data in ("MNIST", "CC BY-SA 3.0", "Noto Emoji", "Twemoji", "CC BY 4.0"))


@pytest.mark.parametrize("name", ["ganserve", "ganserve_zoo_weights"])
def test_a_source_distribution_builds_the_same_wheel(name: str, dist: Path) -> None:
    with wheel(dist / "direct", name) as direct, wheel(dist / "by-sdist", name) as by_sdist:
        assert {each.filename: each.CRC for each in direct.infolist()} == {
            each.filename: each.CRC for each in by_sdist.infolist()
        }


@pytest.mark.parametrize("pythonpath", [None, "."])
def test_the_client_imports_only_its_own_libraries(installed: Installed, pythonpath: str | None) -> None:
    file, names = installed.run(Way(("python", "-c", MODULES), "foreign", pythonpath)).splitlines()
    assert Path(file).is_relative_to(installed.bin.parent), "the checkout was imported, not the wheel"
    assert set(names.split()) <= CLIENT_NEEDS


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_command_finds_its_own_packages(installed: Installed, way: Way) -> None:
    assert [entry["name"] for entry in json.loads(installed.run(way, "zoo", "list", "--json"))] == list(ENTRIES)


def start_server(installed: Installed, way: Way, repository: Path) -> ServerProcess:
    options = serve_command(repository)
    command = installed.command(way, *options[options.index("serve") :])
    return ServerProcess(command, installed.environment(way), installed.folders / way.folder)


def test_inspect_export_serve_models_and_generate_work(installed: Installed, tmp_path: Path) -> None:
    way = HARDEST
    (weights,) = json.loads(installed.run(way, "zoo", "pull", "digits", "--json")).values()
    assert Path(weights).is_relative_to(installed.bin.parent), "the checkout's weights were read"
    assert "cgan" in installed.run(way, "inspect", weights)
    target = ["--repository", str(tmp_path / "repository"), "--name", "digits"]
    installed.run(way, "export", "digits", *target, "--directions", "none", "--discriminator", "none")
    with start_server(installed, way, tmp_path / "repository") as server:
        (model,) = json.loads(installed.run(way, "models", "--server", server.address, "--json"))
        assert model["name"] == "digits"
        image = tmp_path / "three.png"
        options = ["--seeds", "0", "--labels", "3", "-o", str(image), "--server", server.address]
        installed.run(way, "generate", "digits", *options)
    with Image.open(image) as opened:
        assert (opened.format, opened.size) == ("PNG", (28, 28))


# A training script that has a package `models` of its own, which stays the one that it has.
EXPORT_MODULE = """
import sys, types
sys.modules["models"] = own = types.ModuleType("models")
from torch import nn
import ganserve
network = nn.Sequential(nn.Linear(4, 192), nn.Unflatten(1, (3, 8, 8)), nn.Tanh()).eval()
print(ganserve.export_module(network, latent_size=4, repository=sys.argv[1], name="mine").folder)
assert sys.modules["models"] is own and not [name for name in sys.modules if name.startswith(("export.", "server."))]
"""


def test_a_module_is_exported_from_a_script_with_packages_of_our_names(installed: Installed, tmp_path: Path) -> None:
    way = Way(("python", "-c", EXPORT_MODULE), "foreign", ".")
    assert installed.run(way, str(tmp_path)).strip() == str(tmp_path / "mine" / "1")
    assert (tmp_path / "mine" / "1" / "model.onnx").is_file()


def test_an_editable_install_shows_every_package_and_its_command_finds_its_own(folders: Path, tmp_path: Path) -> None:
    editable = Installed(make_environment(tmp_path / "venv"), folders)
    install(editable.bin, "--editable", str(ROOT))
    for way in (Way(SCRIPT, "foreign", "."), Way(MODULE, "imported-before", ".")):
        assert len(json.loads(editable.run(way, "zoo", "list", "--json"))) == len(ENTRIES)
    code = "import artifact, export, ganserve, models; print(artifact.__file__, export.__file__, models.__file__)"
    files = editable.run(Way(("python", "-c", code), ".")).split()
    assert files == [str(ROOT / name / "__init__.py") for name in ("artifact", "export", "models")]
