# cython: language_level=3, annotation_typing=False, nonecheck=True
"""Turn a statement's literals into the arguments a driver takes.

A binder is made once for a compiled statement. For each position of the driver's argument list it knows which
literal goes there (`slots`, -1: a constant of the text), and through which processor. When nothing has to be
moved or converted the tuple of literals is handed on as it is (`direct`).

A list for IN is one literal. Its text depends on its length, so there is one *variant* of the text for each
tuple of lengths, made by `expand` on first sight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import cython
except ImportError:
    from sojourn import _cython as cython

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Processor = Callable[[Any], Any]
    Args = tuple[Any, ...]

MAX_VARIANTS = 64  # texts kept for different list lengths of one statement
LONG_TEXT = 100_000  # a variant longer than this is made anew each time instead of kept


@cython.cclass
class Binder:
    """Bind literals to one compiled text."""

    if not cython.compiled:
        __slots__ = (
            "constants", "direct", "each", "expand", "expanding", "limit", "processors", "slots", "text",
            "token", "touched", "variants",
        )  # fmt: skip

    text: str
    direct: bool
    touched: int
    token: Any
    slots: tuple[int, ...]
    processors: tuple[Processor | None, ...] | None
    constants: tuple[Any, ...]
    expanding: tuple[int, ...]
    variants: dict[tuple[int, ...], Any]
    expand: Callable[[Args, tuple[int, ...] | None], Any] | None
    each: Callable[[Args], tuple[str, Args]] | None
    limit: int

    def __init__(
        self,
        text: str,
        slots: Sequence[int] | None = None,
        processors: Sequence[Processor | None] | None = None,
        constants: Sequence[Any] = (),
        expanding: Sequence[int] = (),
        expand: Callable[[Args, tuple[int, ...] | None], Any] | None = None,
        each: Callable[[Args], tuple[str, Args]] | None = None,
        limit: int = 0,
        count: int = -1,
    ) -> None:
        """Describe the text's positions.

        `slots` None: the arguments are the literals as they are. `expanding` are the indexes of literals that
        are lists; `expand(params, lengths)` returns `(text, slots, processors, constants)` for these lengths,
        with one position per list. `each(params)` returns `(text, args)` and, when given, replaces all this.
        More than `limit` arguments (0: any number) go to `expand` with lengths None, which returns
        `(text, args)` or raises. `count` is how many literals there are, if not as many as positions.
        """
        self.text = text
        self.slots = () if slots is None else tuple(slots)
        self.processors = None if processors is None or not any(processors) else tuple(processors)
        self.constants = tuple(constants)
        self.expanding = tuple(expanding)
        self.expand = expand
        self.each = each
        self.limit = limit
        self.variants = {}
        self.token = None
        self.touched = 0
        moved = slots is not None and (
            self.slots != tuple(range(len(slots)))
            or (count >= 0 and count != len(slots))
            or self.processors is not None
        )
        self.direct = not moved and not expanding and each is None

    def bind(self, params: Args) -> tuple[str, Args]:
        """Return the text and the driver's arguments for these literals."""
        if self.touched < 2:
            self.touched += 1
        if self.direct:
            return self.text, params
        try:
            if self.each is not None:
                return self.each(params)
            if self.expanding:
                return self._bind_expanded(params)
            return self.text, tuple(_arguments(self.slots, self.processors, self.constants, params))
        except Exception as error:
            raise self.refusal(error, params) from error

    def refusal(self, error: Exception, params: Args) -> Exception:
        """Return what to raise when a processor refused a literal."""
        return error

    @cython.locals(
        i=cython.Py_ssize_t, j=cython.Py_ssize_t, total=cython.Py_ssize_t, slots=tuple, processors=tuple,
        constants=tuple, args=list,
    )  # fmt: skip
    def _bind_expanded(self, params: Args) -> tuple[str, Args]:
        """Bind through the variant for the lengths of the lists at hand."""
        assert self.expand is not None
        total = len(params) - len(self.expanding)
        lengths = tuple([len(params[index]) for index in self.expanding])
        for length in lengths:
            total += length
        if self.limit and total > self.limit:
            return self.expand(params, None)  # type: ignore[no-any-return]
        variant = self.variants.get(lengths)
        if variant is None:
            variant = self.expand(params, lengths)
            if len(variant[0]) <= LONG_TEXT:
                if len(self.variants) >= MAX_VARIANTS:
                    self.variants.clear()
                self.variants[lengths] = variant
        slots, processors, constants = variant[1], variant[2], variant[3]
        spread = self.expanding
        args: list[Any] = []
        for i in range(len(slots)):
            j = slots[i]
            if j < 0:
                args.append(constants[i])
                continue
            value = params[j]
            processor = processors[i]
            if j in spread:
                if processor is None:
                    args.extend(value)
                else:
                    args.extend([processor(item) for item in value])
            else:
                args.append(value if processor is None else processor(value))
        return variant[0], tuple(args)


@cython.cfunc
@cython.locals(
    slots=tuple, processors=tuple, constants=tuple, params=tuple, args=list, i=cython.Py_ssize_t,
    j=cython.Py_ssize_t, n=cython.Py_ssize_t,
)  # fmt: skip
def _arguments(
    slots: tuple[int, ...], processors: tuple[Processor | None, ...] | None, constants: Args, params: Args
) -> list[Any]:
    """Collect one argument for each position."""
    n = len(slots)
    args: list[Any] = [None] * n
    if processors is None:
        for i in range(n):
            j = slots[i]
            args[i] = params[j] if j >= 0 else constants[i]
        return args
    for i in range(n):
        j = slots[i]
        if j < 0:
            args[i] = constants[i]
            continue
        processor = processors[i]
        value = params[j]
        args[i] = value if processor is None else processor(value)
    return args
