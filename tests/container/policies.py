"""What is demanded of a Dockerfile. Each policy yields a line for each thing that is wrong."""

import fnmatch
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from server.settings import PREFIX, Settings
from tests.container.dockerfile import ROOT, SERVERS, TARGETS, Dockerfile
from tests.container.requirements import EXTRAS, PACKAGES, PROJECT, closure

Policy = Callable[[Dockerfile], Iterator[str]]


def base_images_are_pinned(dockerfile: Dockerfile) -> Iterator[str]:
    for image in dockerfile.images():
        tag = image.partition("@")[0].rpartition(":")[2] if ":" in image else ""
        if not re.match(r"\d+\.\d+", tag):
            yield f"{image}: not one version"


def nothing_is_downloaded_unchecked(dockerfile: Dockerfile) -> Iterator[str]:
    for found in dockerfile.instructions:
        if found.word == "ADD" or (found.word == "RUN" and re.search(r"\b(curl|wget|https?:)", found.rest)):
            yield f"{found.word} {found.rest}"


def users_are_numbers(dockerfile: Dockerfile) -> Iterator[str]:
    """A name cannot be checked by the kubelet's runAsNonRoot."""
    for target in TARGETS:
        user = dockerfile.last(target, "USER").rest
        if not re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user):
            yield f"{target} runs as {user}"


def programs_are_started_without_a_shell(dockerfile: Dockerfile) -> Iterator[str]:
    """A shell would be process 1, and would keep SIGTERM to itself."""
    for target in TARGETS:
        for word in ("ENTRYPOINT", "CMD"):
            if dockerfile.last(target, word).argv is None:
                yield f"{target}: {word} in shell form"
        health = dockerfile.last(target, "HEALTHCHECK")
        if health.argv is None and (target in SERVERS or health.rest != "NONE"):
            yield f"{target}: HEALTHCHECK {health.rest}"


def servers_serve(dockerfile: Dockerfile) -> Iterator[str]:
    fields = Settings.model_fields
    ports = {str(Settings(repository=Path()).api_port)} | {
        str(fields[name].default) for name in ("grpc_port", "http_port")
    }
    for target in SERVERS:
        started = [*(dockerfile.last(target, "ENTRYPOINT").argv or ()), *(dockerfile.last(target, "CMD").argv or ())]
        if started != ["ganserve", "serve"]:
            yield f"{target} starts {started}"
        if set(dockerfile.last(target, "EXPOSE").rest.split()) != ports:
            yield f"{target} exposes other ports than {ports}"
        if str(fields["http_port"].default) not in dockerfile.last(target, "HEALTHCHECK").rest:
            yield f"{target}: the HEALTHCHECK requests another port than the default"


def settings_exist(dockerfile: Dockerfile) -> Iterator[str]:
    """The server refuses to start with one that it does not know."""
    for target in TARGETS:
        environment = dockerfile.environment(target)
        for name in environment:
            if name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() not in Settings.model_fields:
                yield f"{target} sets {name}"
        if target in SERVERS and environment.get("GANSERVE_REPOSITORY") != "/models":
            yield f"{target} does not serve /models"
        if target in SERVERS and environment.get("GANSERVE_HOST") != "0.0.0.0":
            yield f"{target} listens on loopback, which nobody outside the container reaches"
        if target == "server-gpu" and environment.get("GANSERVE_DEVICE") != "cuda":
            yield f"{target} would serve from a CPU"


def a_read_only_root_is_enough(dockerfile: Dockerfile) -> Iterator[str]:
    for target in TARGETS:
        environment = dockerfile.environment(target)
        for name, value in {"HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}.items():
            if environment.get(name) != value:
                yield f"{target}: {name} is not {value}"


def extras_exist(dockerfile: Dockerfile) -> Iterator[str]:
    for target in TARGETS:
        extras = dockerfile.extras(target)
        if not extras:
            yield f"{target} installs no extras"
        for extra in extras - set(EXTRAS):
            yield f"{target}: no extra {extra} in pyproject.toml"


def servers_have_no_torch(dockerfile: Dockerfile) -> Iterator[str]:
    for target in SERVERS:
        names, absent = closure(dockerfile.extras(target) & set(EXTRAS))
        if names & {"torch", "onnx", "onnxscript"}:
            yield f"{target} has torch or what goes with it"
        for name in absent - {"onnxruntime-gpu"}:  # gigabytes, and it needs what onnxruntime needs
            yield f"{target}: what {name} needs is not known here"


def the_exporter_has_torch(dockerfile: Dockerfile) -> Iterator[str]:
    if "torch" not in closure(dockerfile.extras("export"))[0]:
        yield "export has no torch"


def the_exporter_has_the_zoos_weights(dockerfile: Dockerfile) -> Iterator[str]:
    if "/wheels/ganserve_zoo_weights-" not in dockerfile.installation("export"):
        yield "export has no weights"


def labels_say_what_it_is(dockerfile: Dockerfile) -> Iterator[str]:
    for target in TARGETS:
        labels = dockerfile.labels(target)
        wanted = {"version": PROJECT["version"], "licenses": PROJECT["license"], "title": PROJECT["name"]}
        wanted["base.name"] = f"docker.io/library/{next(iter(dockerfile.images()))}"
        for name, value in wanted.items():
            if labels.get(f"org.opencontainers.image.{name}") != value:
                yield f"{target}: label {name} is not {value}"
        for name in ("source", "revision", "documentation"):
            if f"org.opencontainers.image.{name}" not in labels:
                yield f"{target}: no label {name}"


def sources_reach_the_build(dockerfile: Dockerfile) -> Iterator[str]:
    """Each copied path exists and is not ignored, and all packages of the wheel are copied."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied: list[str] = []
    for found in (each for each in dockerfile.instructions if each.word == "COPY" and "--from" not in each.rest):
        copied += found.rest.split()[:-1]
    for path in copied:
        if not (ROOT / path).exists() or not any(fnmatch.fnmatch(path, pattern) for pattern in allowed):
            yield f"{path} does not reach the build"
    for package in PACKAGES:
        if package not in copied:
            yield f"{package} is not copied"


POLICIES: dict[str, Policy] = {
    policy.__name__: policy
    for policy in (
        base_images_are_pinned,
        nothing_is_downloaded_unchecked,
        users_are_numbers,
        programs_are_started_without_a_shell,
        servers_serve,
        settings_exist,
        a_read_only_root_is_enough,
        extras_exist,
        servers_have_no_torch,
        the_exporter_has_torch,
        the_exporter_has_the_zoos_weights,
        labels_say_what_it_is,
        sources_reach_the_build,
    )
}
