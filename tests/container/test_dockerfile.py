"""What is demanded of the Dockerfile. Each demand is also seen failing on a copy that is broken in one place."""

import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.container.dockerfile import ROOT, TARGETS, Dockerfile, shipped
from tests.container.policies import POLICIES
from tests.container.requirements import EXTRAS, PROJECT, closure, pins

# policy, what stands in the Dockerfile, what is put in its place, what the policy must say
BREAKS = [
    ("base_images_are_pinned", "=python:3.12-slim-bookworm", "=python:latest", "python:latest"),
    ("base_images_are_pinned", "=python:3.12-slim-bookworm", "=registry.example.com/python", "not one version"),
    ("nothing_is_downloaded_unchecked", "COPY server server", "ADD https://example.com/server.tar /source/", "ADD"),
    ("users_are_numbers", "USER 10001:10001", "USER ganserve", "runs as ganserve"),
    ("users_are_numbers", "USER 10001:10001", "USER 0:0", "runs as 0:0"),
    ("programs_are_started_without_a_shell", 'ENTRYPOINT ["ganserve"]', "ENTRYPOINT ganserve", "ENTRYPOINT"),
    ("programs_are_started_without_a_shell", 'CMD ["serve"]', "CMD serve", "CMD"),
    ("programs_are_started_without_a_shell", "HEALTHCHECK --interval=10s", "HEALTHCHECK NONE\nRUN", "HEALTHCHECK NONE"),
    ("servers_serve", 'CMD ["serve"]', 'CMD ["models"]', "models"),
    ("servers_serve", "EXPOSE 8000 8001 8002", "EXPOSE 8002", "exposes"),
    ("servers_serve", "'GANSERVE_HTTP_PORT', 8002", "'GANSERVE_HTTP_PORT', 8000", "another port"),
    ("settings_exist", "ENV GANSERVE_REPOSITORY=/models", "ENV GANSERVE_MODELS=/models", "GANSERVE_MODELS"),
    ("settings_exist", "ENV GANSERVE_REPOSITORY=/models", "ENV GANSERVE_REPOSITORY=/srv", "/models"),
    ("settings_exist", " GANSERVE_HOST=0.0.0.0", "", "loopback"),
    ("settings_exist", " GANSERVE_DEVICE=cuda", "", "from a CPU"),
    ("a_read_only_root_is_enough", "HOME=/tmp", "HOME=/root", "HOME"),
    ("extras_exist", "[cuda,${TENSORRT},native,tracing]", "[cuda,rtx]", "no extra rtx"),
    ("extras_exist", "COPY --from=environment-cpu /opt/ganserve /opt/ganserve", "USER 10001:10001", "no extras"),
    ("servers_have_no_torch", "[cpu,native,tracing]", "[cpu,export]", "server-cpu has torch"),
    ("the_exporter_has_torch", "[export,${TENSORRT}]", "[cpu,${TENSORRT}]", "no torch"),
    ("the_exporter_has_the_zoos_weights", " /wheels/ganserve_zoo_weights-*.whl", "", "no weights"),
    ("labels_say_what_it_is", "ARG VERSION=0.1.0", "ARG VERSION=0.0.9", "version"),
    ("labels_say_what_it_is", "org.opencontainers.image.source=", "source=", "no label source"),
    ("sources_reach_the_build", "COPY server server\n", "", "server is not copied"),
    ("sources_reach_the_build", "COPY server server", "COPY server tests /source/", "tests does not reach"),
]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_dockerfile_keeps_every_policy(policy: str) -> None:
    assert list(POLICIES[policy](Dockerfile(shipped()))) == []


@pytest.mark.parametrize(("policy", "old", "new", "says"), BREAKS)
def test_each_policy_finds_what_breaks_it(policy: str, old: str, new: str, says: str) -> None:
    assert old in shipped()
    problems = list(POLICIES[policy](Dockerfile(shipped().replace(old, new))))
    assert any(says in problem for problem in problems), problems


def test_every_policy_was_seen_failing() -> None:
    assert {policy for policy, *_ in BREAKS} == set(POLICIES)


def test_every_installed_requirement_of_an_image_is_pinned_to_a_version_that_pyproject_allows() -> None:
    pinned = pins()
    for target in TARGETS:
        names, _ = closure(Dockerfile(shipped()).extras(target))
        assert names - set(pinned) == set(), target
    own = [*PROJECT["dependencies"], *(text for extra in EXTRAS for text in EXTRAS[extra] if extra != "dev")]
    checked = 0
    for requirement in map(Requirement, own):
        version = pinned.get(canonicalize_name(requirement.name))
        if version is not None:
            assert requirement.specifier.contains(version), requirement
            checked += 1
    assert checked > 20


def test_one_build_argument_brings_classic_tensorrt_to_the_gpu_server_and_the_exporter_alike() -> None:
    default, classic = Dockerfile(shipped()), Dockerfile(shipped(), TENSORRT="tensorrt")
    for target in ("server-gpu", "export"):
        assert default.extras(target) - classic.extras(target) == {"tensorrt-rtx"}
        assert classic.extras(target) - default.extras(target) == {"tensorrt"}
    assert default.extras("server-cpu") == classic.extras("server-cpu")
    assert list(POLICIES["extras_exist"](classic)) == []
    pinned, name = pins(), "tensorrt-cu13"
    assert pinned[name] == pinned[f"{name}-bindings"] == pinned[f"{name}-libs"]
    assert any(Requirement(text).name == name for text in EXTRAS["tensorrt"])


def test_a_build_argument_that_a_stage_does_not_declare_is_found() -> None:
    with pytest.raises(LookupError, match="environment-gpu does not declare TENSORRT"):
        Dockerfile(shipped().replace("ARG TENSORRT\n", "", 1)).extras("server-gpu")


def lint(dockerfile: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "hadolint"), "--no-color", str(dockerfile)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=dockerfile.parent)


def test_hadolint_has_nothing_to_say() -> None:
    done = lint(ROOT / "Dockerfile")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_hadolint_would_have_something_to_say(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nRUN pip install numpy\nCMD python\n")
    done = lint(bad)
    assert done.returncode == 1
    assert all(code in done.stdout for code in ("DL3007", "DL3013", "DL3042", "DL3025")), done.stdout
