from dataclasses import dataclass

from server.images.waiting import Waiting


@dataclass(eq=False)
class Call:
    client: str
    started_at: float | None = None
    crowding: float = 1.0


def test_nobody_is_held_up_while_nothing_runs_or_by_what_has_just_begun() -> None:
    waiting: Waiting[Call] = Waiting(1)
    waiting.put(first := Call("many"))
    assert not waiting.is_held_up(0)
    assert waiting.take() is first
    waiting.put(Call("many"))
    waiting.put(second := Call("few"))
    assert not waiting.is_held_up(1e6)
    assert waiting.take_held_up(1e6) is None
    first.started_at = -1e7
    assert waiting.is_held_up(1e6)
    assert waiting.take_held_up(1e6) is second
    assert not waiting.is_held_up(1e6), "who waits has one running"
    assert (first.crowding, second.crowding) == (2, 2)
    waiting.end(first)
    assert waiting.take() is not None
    assert first.crowding == 2


def test_who_leaves_is_in_no_line() -> None:
    waiting: Waiting[Call] = Waiting(1)
    calls = [Call("one"), Call("one"), Call("other")]
    for call in calls:
        waiting.put(call)
    assert [waiting.drop(call) for call in (calls[0], calls[2], calls[2])] == [True, True, False]
    assert waiting.take() is calls[1]
    assert not waiting.drop(calls[1]), "it has begun"
    assert not waiting
