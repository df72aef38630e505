"""Reads pickles as data: a small machine for the opcodes that trained networks need, in which a name is only a name.

Python's own unpickler imports what a file names and calls it. This one imports nothing: names stand for entries of a
table that the caller gives, objects of network classes become inert `Part`s, everything else is refused by name.
Time and memory are bounded by a number of steps and by a multiple of the file's size.

Source: `pickletools` of the standard library, which splits a file into opcodes and their arguments.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

TENSORFLOW = ("dnnlib.tflib.", "tfutils.", "network.Network")
DAMAGED = "truncated or damaged pickle"


class PickleError(ValueError):
    """A pickle that is damaged, or more than a trained network's data; one line that says what was found."""


@dataclass(frozen=True)
class Name:
    """`module.name` as the file says it; nothing was imported."""

    text: str


class Fillable:
    """What a call makes and BUILD fills afterwards."""

    def fill(self, state: Any) -> None:
        """Takes the state that the file gives.

        Raises:
            PickleError: not the state of such an object.
        """
        raise NotImplementedError


@dataclass
class Part(Fillable):
    """An object of a network's class: the class's name and the object's attributes."""

    name: str
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def fill(self, state: Any) -> None:
        """Takes the attributes."""
        if not isinstance(state, dict):
            raise PickleError(f"{DAMAGED}: an object of {self.name[:80]!a} without attributes")
        self.attributes = state


@dataclass
class Budget:
    """What reading may cost: opcodes, and bytes copied out of the file's bytes."""

    steps: int
    copies_bytes: int

    def step(self) -> None:
        """Takes one opcode.

        Raises:
            PickleError: none is left.
        """
        self.steps -= 1
        if self.steps < 0:
            raise PickleError("takes more steps than any network's pickle; refused")

    def copy(self, size_bytes: int) -> None:
        """Takes bytes.

        Raises:
            PickleError: too few are left.
        """
        self.copies_bytes -= size_bytes
        if self.copies_bytes < 0:
            raise PickleError("unpacks to far more than the file's size; refused")


@dataclass(frozen=True)
class Vocabulary:
    """What a pickle may name. `calls`: name -> what makes the value from the budget and the file's arguments;
    `parts`: beginnings of names of classes whose objects become `Part`s; `identified`: makes the value of a
    persistent id, None if there must be none.
    """

    calls: Mapping[str, Callable[..., Any]]
    parts: tuple[str, ...] = ()
    identified: Callable[[Any], Any] | None = None


class Machine:
    """Runs the pickles of a stream, one after the other."""

    def __init__(self, stream: IO[bytes], vocabulary: Vocabulary, budget: Budget) -> None:
        self.stream = stream
        self.vocabulary = vocabulary
        self.budget = budget
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The stream's next object.

        Raises:
            PickleError: damaged, too much, or anything but data.
        """
        self.stack, self.marks, self.memo = [], [], {}
        try:
            for opcode, argument, _ in pickletools.genops(self.stream):
                self.budget.step()
                if opcode.name == "STOP":
                    return self.stack.pop()
                if opcode.name not in OPCODES:
                    raise PickleError(f"uses the pickle opcode {opcode.name}, which no network needs; refused")
                OPCODES[opcode.name](self, argument)
        except PickleError:
            raise
        except (
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            ArithmeticError,
            RuntimeError,
            MemoryError,
        ) as error:
            raise PickleError(f"{DAMAGED}: {str(error)[:100]!a}") from None
        raise PickleError(f"{DAMAGED}: it has no end")

    def name(self, module: object, name: object) -> None:
        """Pushes a name, if the vocabulary has it.

        Raises:
            PickleError: it has not.
        """
        text = f"{module}.{name}"
        if text.startswith(TENSORFLOW):
            raise PickleError(
                f"a TensorFlow network ({text[:80]!a}) of the first StyleGAN code; "
                "convert it to a PyTorch pickle with legacy.py of NVlabs/stylegan3"
            )
        if text not in self.vocabulary.calls and not text.startswith(self.vocabulary.parts):
            raise PickleError(f"names {text[:80]!a}, which no network needs; refused, and nothing was run")
        self.stack.append(Name(text))

    def call(self) -> None:
        """Replaces a name and its arguments by what the name makes of them."""
        name, arguments = self.take(2)
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise PickleError("calls something that is no name; refused")
        if name.text in self.vocabulary.calls:
            self.stack.append(self.vocabulary.calls[name.text](self.budget, *arguments))
        elif arguments:
            raise PickleError(f"calls {name.text[:80]!a} with arguments, which no network needs; refused")
        else:
            self.stack.append(Part(name.text))

    def build(self) -> None:
        """Fills what was made last."""
        state, made = self.take(1)[0], self.stack[-1]
        if isinstance(made, Fillable):
            made.fill(state)
        elif not isinstance(made, dict):  # what a dict has next to its entries, such as _metadata, is not needed
            raise PickleError("sets attributes of something that has none; refused")

    def identify(self) -> None:
        """Replaces a persistent id by what it stands for."""
        if self.vocabulary.identified is None:
            raise PickleError("uses the pickle opcode BINPERSID, which no network needs; refused")
        self.stack.append(self.vocabulary.identified(self.take(1)[0]))

    def memoize(self, index: int | None) -> None:
        """Remembers the last value, under the next free number where none is given."""
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def take(self, count: int) -> list[Any]:
        """The last `count` values, taken off the stack."""
        if len(self.stack) - (self.marks[-1] if self.marks else 0) < count:
            raise PickleError(f"{DAMAGED}: values are missing")
        found = self.stack[-count:]
        del self.stack[-count:]
        return found

    def since_mark(self) -> list[Any]:
        """The values since the last mark, taken off the stack."""
        start = self.marks.pop()
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def extend(self, values: list[Any], kind: type) -> None:
        """Adds values to the container on top of the stack, which must be of that kind."""
        target = self.stack[-1]
        if not isinstance(target, kind):
            raise PickleError(f"{DAMAGED}: values without a {kind.__name__}")
        if isinstance(target, list):
            target.extend(values)
        elif isinstance(target, set):
            target.update(map(_key, values))
        elif isinstance(target, dict):
            target.update(zip(map(_key, values[::2]), values[1::2], strict=True))

    def new_dict(self) -> None:
        """Replaces the values since the mark by a dict of them."""
        values = self.since_mark()
        self.stack.append({})
        self.extend(values, dict)


def _key(key: object) -> object:
    # Nothing that is hashed in depth: a tuple of a tuple of a tuple ... ends the process.
    if not isinstance(key, str | int):
        raise PickleError(f"a {type(key).__name__} as a key, where names and numbers belong; refused")
    return key


PUSHED: Mapping[str, Callable[[Any], Any]] = {
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    "EMPTY_SET": lambda _: set(),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), lambda argument: argument),
    **dict.fromkeys(("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), lambda argument: argument),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"), lambda argument: argument),
}


def _push(make: Callable[[Any], Any]) -> Callable[[Machine, Any], None]:
    return lambda machine, argument: machine.stack.append(make(argument))


OPCODES: Mapping[str, Callable[[Machine, Any], None]] = {
    **{opcode: _push(make) for opcode, make in PUSHED.items()},
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "TUPLE1": lambda machine, _: machine.stack.append(tuple(machine.take(1))),
    "TUPLE2": lambda machine, _: machine.stack.append(tuple(machine.take(2))),
    "TUPLE3": lambda machine, _: machine.stack.append(tuple(machine.take(3))),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "LIST": lambda machine, _: machine.stack.append(machine.since_mark()),
    "DICT": lambda machine, _: machine.new_dict(),
    "APPEND": lambda machine, _: machine.extend(machine.take(1), list),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark(), list),
    "SETITEM": lambda machine, _: machine.extend(machine.take(2), dict),
    "SETITEMS": lambda machine, _: machine.extend(machine.since_mark(), dict),
    "ADDITEMS": lambda machine, _: machine.extend(machine.since_mark(), set),
    "BINPUT": lambda machine, index: machine.memoize(index),
    "LONG_BINPUT": lambda machine, index: machine.memoize(index),
    "MEMOIZE": lambda machine, _: machine.memoize(None),
    "BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "LONG_BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "GLOBAL": lambda machine, text: machine.name(*text.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name(*machine.take(2)),
    "REDUCE": lambda machine, _: machine.call(),
    "NEWOBJ": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.identify(),
}
