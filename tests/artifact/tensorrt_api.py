"""TensorRT's Python API, read off a binding: which calls it takes and what they return, without a GPU.

Run as a program it prints the API of one binding as JSON. The bindings of classic TensorRT are on PyPI, its libraries
are not: `described_classic` loads them over libraries that have the symbols only.
"""

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Names of one type in the signatures that different releases of pybind11 write.
_SAME = {"typing.SupportsInt": "int", "typing_extensions.Buffer": "bytes", "buffer": "bytes"}
_SIGNATURE = re.compile(r"^(?:\d+\. )?[\w.]*\((.*)\) -> (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Call:
    """One way to call something: the types it takes after `self`, how many of them it must have, what it returns."""

    takes: tuple[str, ...]
    needs: int
    returns: str

    def allows(self, used: "Call") -> bool:
        """Whether a call with these arguments, by position, is one."""
        given = len(used.takes)
        return self.takes[:given] == used.takes and self.needs <= given and self.returns == used.returns


def described(library: Any) -> dict[str, str]:
    """`Class.member` -> its documentation, which has its signatures; for a member of an enum ""."""
    found = {}
    for name, owner in vars(library).items():
        if not isinstance(owner, type):
            continue
        members = getattr(owner, "__members__", {})
        for member in dir(owner):
            value = getattr(owner, member)
            text = value.fget.__doc__ if isinstance(value, property) else value.__doc__
            found[f"{name}.{member}"] = "" if member in members else str(text)
    return found


def described_classic(folder: Path) -> dict[str, str]:
    """The same of the installed bindings of classic TensorRT. `folder`: for the libraries that they are loaded over."""
    binding = importlib.util.find_spec("tensorrt_bindings")
    assert binding is not None
    assert binding.submodule_search_locations
    shared = (Path(binding.submodule_search_locations[0]) / "tensorrt.so").read_bytes()
    symbols = sorted(set(re.findall(rb"\0((?:create|get|init)(?:Infer|Nv|Lib|Builder|Plugin)\w+)(?=\0)", shared)))
    source = folder / "symbols.c"
    source.write_text("".join(f"void *{symbol.decode()}(void) {{ return 0; }}\n" for symbol in symbols))
    for library in sorted(set(re.findall(rb"\0(libnv(?:infer|infer_plugin|onnxparser)\.so\.\d+)(?=\0)", shared))):
        name = library.decode()
        command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(folder / name), str(source)]
        subprocess.run(command, check=True)
    printed = subprocess.run(
        [sys.executable, "-m", __spec__.name, binding.name],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "LD_LIBRARY_PATH": str(folder)},
    )
    return dict(json.loads(printed.stdout))


def calls(text: str) -> list[Call]:
    """The signatures in a documentation, or in a line of our own: `name(type, ...) -> type`."""
    found = []
    for arguments, returns in _SIGNATURE.findall(text):
        takes = [each.partition(": ")[2] or each for each in arguments.split(", ") if each and each[:5] != "self:"]
        types = tuple(_plain(each.partition(" = ")[0]) for each in takes)
        found.append(Call(types, sum(" = " not in each for each in takes), _plain(returns)))
    return found


def _plain(name: str) -> str:
    """A type without its module, under the name that we use."""
    within = re.sub(r"[\w.]+\.(?=[A-Z]\w*)|\w+::", "", name) if name not in _SAME else _SAME[name]
    return within.replace("List[", "list[")


if __name__ == "__main__":
    print(json.dumps(described(importlib.import_module(sys.argv[1]))))
