"""Policies: what must be true of an overlay's objects, each with one change of an overlay that breaks it."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.k8s.rendering import Object, named

ABSENT = object()  # the value of a field that is removed
# Paths inside a Deployment or Job
POD = "spec template spec"
FIRST = f"{POD} containers 0"

Check = Callable[[Sequence[Object]], Iterator[str]]


@dataclass(frozen=True)
class Break:
    """In a copy of `overlay`, `path` of the object `where` becomes `value`; the policy must then say `says`."""

    overlay: str
    where: str
    path: str
    value: Any
    says: str

    def apply(self, objects: Sequence[Object]) -> list[Object]:
        """The copy."""
        copied = copy.deepcopy(list(objects))
        found: Any = named(copied, self.where)
        *parents, last = self.path.split()
        for key in parents:
            found = found[int(key)] if isinstance(found, list) else found.setdefault(key, {})
        key_or_index: Any = int(last) if isinstance(found, list) else last
        if self.value is ABSENT:
            del found[key_or_index]
        else:
            before = found[key_or_index] if isinstance(found, list) else found.get(key_or_index)
            assert before != self.value, f"{self}: changes nothing"
            found[key_or_index] = self.value
        return copied


@dataclass(frozen=True)
class Policy:
    """`check` gives one line for each place where the policy is violated."""

    check: Check
    broken_by: Break


POLICIES: dict[str, Policy] = {}


def policy(overlay: str, where: str, path: str, value: Any, says: str) -> Callable[[Check], Check]:
    """Makes a function a policy of every overlay, with the `Break` that it must find."""

    def register(check: Check) -> Check:
        POLICIES[check.__name__] = Policy(check, Break(overlay, where, path, value, says))
        return check

    return register
