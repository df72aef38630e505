"""Reads pickles as data: a small machine for their opcodes, protocols 0 to 5, in which a name is only a name.

Python's own unpickler imports what a file names and calls it. This one imports nothing: names that its caller knows
(those of tensors and arrays) stand for functions of ours, objects of all other classes become inert `Part`s, whatever
they are and whoever wrote them. Time and memory are bounded by a number of steps and by a multiple of the file's size.

Source: `pickletools` of the standard library, which splits a file into opcodes and their arguments.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

TENSORFLOW = ("dnnlib.tflib.", "tfutils.", "network.Network")
MAX_NAME = 300
MAX_KEY = 16  # parts of a key that is a tuple
LARGE = 2**61 - 1  # numbers from here on share hashes with smaller ones
DAMAGED = "truncated or damaged pickle"
# Functions with which pickle makes an object of the class that is their first argument.
MAKERS = ("copyreg._reconstructor", "copy_reg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__")


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
    """An object of a class that is only a name here: what it was made from, its attributes, entries and items."""

    name: str
    arguments: tuple[Any, ...] = ()
    attributes: dict[Any, Any] = field(default_factory=dict)
    entries: dict[Any, Any] = field(default_factory=dict)
    items: list[Any] = field(default_factory=list)

    def fill(self, state: Any) -> None:
        """Takes the attributes: a dict, a pair of dicts (the second those of slots), or any other state."""
        parts = _pair(state) or (state,)
        if all(part is None or isinstance(part, dict) for part in parts):
            for part in parts:
                self.attributes.update(part or {})
        else:
            self.attributes["state"] = state


def _pair(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) and len(state) == 2 else ()


@dataclass
class Budget:
    """What reading may cost: opcodes, and bytes copied out of the file's bytes."""

    steps: int
    copies_bytes: int

    def step(self, count: int = 1) -> None:
        """Takes opcodes, or what costs as much.

        Raises:
            PickleError: none is left.
        """
        self.steps -= count
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
    """`calls`: name -> what makes the value from the budget and the file's arguments; `identified`: makes the value of
    a persistent id, None if there must be none.
    """

    calls: Mapping[str, Callable[..., Any]]
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
        """Pushes a name.

        Raises:
            PickleError: no name, too long, or that of a TensorFlow network.
        """
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > MAX_NAME:
            raise PickleError(f"{DAMAGED}: a name that is no text of at most {MAX_NAME} characters")
        text = f"{module}.{name}"
        if text.startswith(TENSORFLOW):
            raise PickleError(
                f"a TensorFlow network ({text[:80]!a}) of the first StyleGAN code; "
                "convert it to a PyTorch pickle with legacy.py of NVlabs/stylegan3"
            )
        self.stack.append(Name(text))

    def call(self, count: int = 2) -> None:
        """Replaces a name and its arguments (and keyword arguments, if `count` is 3) by what the name makes of them."""
        name, arguments, *_ = self.take(count)
        if not isinstance(arguments, tuple):
            raise PickleError(f"{DAMAGED}: a call without arguments")
        self.make(name, arguments)

    def make(self, name: object, arguments: tuple[Any, ...]) -> None:
        """Pushes what the name makes of the arguments: a value of ours, or an inert `Part`."""
        if not isinstance(name, Name):  # a method of a `Part`, say
            self.stack.append(Part("a call of no name", arguments))
        elif name.text in MAKERS and arguments and isinstance(arguments[0], Name):
            self.make(arguments[0], ())
            made, base = self.stack[-1], arguments[-1]
            if isinstance(made, Part) and isinstance(base, dict):  # of a class derived from dict, protocols 0 and 1
                self.budget.step(len(base))
                made.entries.update(base)
        elif name.text in self.vocabulary.calls:
            self.stack.append(self.vocabulary.calls[name.text](self.budget, *arguments))
        else:
            self.stack.append(Part(name.text, arguments))

    def make_marked(self, name: object = None) -> None:
        """Python 2's way: the arguments are what lies above the mark, behind the name if it was not given."""
        values = self.since_mark()
        self.make(name or values[0], tuple(values if name else values[1:]))

    def build(self) -> None:
        """Fills what was made last. What others have next to their entries, such as _metadata, is not needed."""
        state, made = self.take(1)[0], self.stack[-1]
        if isinstance(made, Fillable):
            self.budget.step(sum(len(part) for part in (state, *_pair(state)) if isinstance(part, dict)))
            made.fill(state)

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
        """Adds values to the container on top of the stack, which must be of that kind, or a `Part`."""
        target = self.stack[-1]
        if isinstance(target, Part):
            target = target.entries if kind is dict else target.items
        if isinstance(target, dict) and kind is dict:
            keys = [_key(key, len(target) + place) for place, key in enumerate(values[::2])]
            target.update(zip(keys, values[1::2], strict=True))
        elif isinstance(target, set) and kind is set:
            target.update(_key(value, len(target) + place) for place, value in enumerate(values))
        elif isinstance(target, list) and kind is not dict:
            target.extend(values)
        else:
            raise PickleError(f"{DAMAGED}: values without a {kind.__name__}")

    def drop(self) -> None:
        """Takes off the values since the last mark."""
        self.since_mark()

    def new_set(self) -> None:
        """Replaces the values since the mark by a set of them."""
        values = self.since_mark()
        self.stack.append(set())
        self.extend(values, set)

    def pop(self) -> None:
        """Takes off the last value, or the mark above it."""
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.take(1)

    def new_dict(self) -> None:
        """Replaces the values since the mark by a dict of them."""
        values = self.since_mark()
        self.stack.append({})
        self.extend(values, dict)


def _key(key: object, place: int) -> object:
    """The key, or a text in its place: nothing is hashed in depth, as tuples of tuples of tuples end the process, nor
    large numbers, which can be chosen to have one hash.
    """
    if key is None or isinstance(key, str | float | bytes | Name) or is_small(key):
        return key
    if isinstance(key, tuple) and len(key) <= MAX_KEY and all(map(_is_brief, key)):
        return key
    return f"<{type(key).__name__} {place}>"


def is_small(value: object) -> bool:
    """Whether it is a whole number with a hash of its own."""
    return isinstance(value, int) and abs(value) < LARGE


def _is_brief(part: object) -> bool:
    return part is None or isinstance(part, float) or is_small(part) or (isinstance(part, str) and len(part) < MAX_NAME)


PUSHED: Mapping[str, Callable[[Any], Any]] = {
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    "EMPTY_SET": lambda _: set(),
    **dict.fromkeys(
        (
            *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "LONG", "BINFLOAT", "FLOAT"),
            *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"),
            *("SHORT_BINSTRING", "BINSTRING", "STRING"),  # Python 2; bytes come as text, a character for each
            *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        ),
        lambda argument: argument,
    ),
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
    "FROZENSET": lambda machine, _: machine.new_set(),
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.drop(),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "PUT": lambda machine, index: machine.memoize(index),
    "GET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "BINPUT": lambda machine, index: machine.memoize(index),
    "LONG_BINPUT": lambda machine, index: machine.memoize(index),
    "MEMOIZE": lambda machine, _: machine.memoize(None),
    "BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "LONG_BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "GLOBAL": lambda machine, text: machine.name(*text.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name(*machine.take(2)),
    "REDUCE": lambda machine, _: machine.call(),
    "NEWOBJ": lambda machine, _: machine.call(),
    "NEWOBJ_EX": lambda machine, _: machine.call(3),
    "INST": lambda machine, text: machine.make_marked(Name(text.replace(" ", ".", 1))),
    "OBJ": lambda machine, _: machine.make_marked(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.identify(),
}
