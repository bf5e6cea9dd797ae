"""The binder puts literals where a text wants them, through the processors of their types."""

from __future__ import annotations

import pytest

from sojourn.kernel.binding import LONG_TEXT, MAX_VARIANTS, Binder


def test_literals_in_place_are_handed_on_as_they_are():
    """Nothing to move, nothing to convert: the very tuple."""
    binder = Binder("a = ? AND b = ?", slots=(0, 1), processors=(None, None))
    params = (1, "x")

    assert binder.direct
    assert binder.bind(params) == ("a = ? AND b = ?", params)
    assert binder.bind(params)[1] is params


def test_literals_are_moved_converted_and_joined_by_constants():
    """A position takes its literal wherever that is, twice if need be; -1 is a constant of the text."""
    binder = Binder(
        "t", slots=(1, -1, 0, 1), processors=(None, None, str, None), constants=(None, "c", None, None)
    )

    assert binder.bind((5, "x")) == ("t", ("x", "c", "5", "x"))


def test_a_literal_the_text_does_not_use_is_left_out():
    """More literals than positions is not the identity."""
    assert Binder("t", slots=(0,), processors=(None,), constants=(None,), count=2).bind((1, 2)) == ("t", (1,))


def make_list_binder(made: list[object], limit: int = 0) -> Binder:
    def expand(params, lengths):
        made.append(lengths)
        if lengths is None:
            return "inlined", ()
        return "?" * lengths[0] + "!", (0, 1), (str, None), (None, None)

    return Binder(
        "",
        slots=(0, 1),
        processors=(str, None),
        constants=(None, None),
        expanding=(0,),
        expand=expand,
        limit=limit,
    )


def test_a_list_has_one_text_for_each_length():
    """The text for a length is made once; a bounded number of them is kept."""
    made: list[object] = []
    binder = make_list_binder(made)

    assert binder.bind(((1, 2), "x")) == ("??!", ("1", "2", "x"))
    assert binder.bind(((), "x")) == ("!", ("x",))
    assert binder.bind(((3, 4), "y")) == ("??!", ("3", "4", "y"))
    assert made == [(2,), (0,)]
    for length in range(200):
        binder.bind(((0,) * length, "x"))
    assert len(binder.variants) <= MAX_VARIANTS
    binder.bind(((0,) * LONG_TEXT, "x"))
    assert (LONG_TEXT,) not in binder.variants


def test_more_arguments_than_the_driver_takes_are_written_into_the_text():
    """Beyond the limit `expand` is asked without lengths."""
    binder = make_list_binder([], limit=3)

    assert binder.bind(((1, 2), "x"))[0] == "??!"
    assert binder.bind(((1, 2, 3), "x"))[0] == "inlined"


def test_a_processor_s_error_passes_through_refusal():
    """A subclass may say better what happened."""

    class Explaining(Binder):
        def refusal(self, error, params):
            return LookupError(f"refused {params}")

    def refuse(value):
        raise TypeError(value)

    with pytest.raises(TypeError):
        Binder("t", slots=(0,), processors=(refuse,)).bind((1,))
    with pytest.raises(LookupError, match="refused"):
        Explaining("t", slots=(0,), processors=(refuse,)).bind((1,))


def test_use_is_noted_up_to_two():
    """A plan cache tells plans used once, when they were made, from those used again."""
    binder = Binder("t")
    for expected in (1, 2, 2):
        binder.bind(())
        assert binder.touched == expected
