"""Rebuild the real Core statement from a recording.

Leaves stand for Core elements; each shape above them holds a callable, or the name of a builder's method,
that is applied to what its children became. Literals are consumed in the order in which they were recorded,
and for each of them the bind parameter that Core made is noted, so that a compiled statement's positions can
be traced back to literals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import BinaryExpression, BindParameter

from sojourn import corelink
from sojourn.statements.namespaces import EntitySelect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sojourn.kernel.record import Node, Recording, Shape

# What `Shape.op` holds besides callables. The names of chain steps are those of Core's methods.
LEAF = "leaf"  # arg: the Core element itself
CORE = "core"  # arg: a Core element whose binds are this shape's literals
SELECT = "select"  # arg: for each asked-for thing a class, or None where a child stands

CHAINED = frozenset(("where", "order_by", "group_by", "having"))
STATEMENT = frozenset((SELECT, "join", "limit", "offset", "distinct", "select_from", *CHAINED))


class Pattern(tuple[Any, ...]):
    """Where a call had its children and literals: "kid", "literal", or a constant in a tuple of one."""

    __slots__ = ()


class Replayed:
    """One rebuilt element with the bind made for each literal, in order; None where none was needed."""

    __slots__ = ("binds", "element")

    def __init__(self, element: Any, binds: list[Any]) -> None:
        self.element = element
        self.binds = binds


def replay(recorded: Node | Recording) -> Replayed:
    """Rebuild what was recorded, with the literals at hand."""
    binds: list[Any] = []
    element = _replay(recorded.shape, iter(recorded.params), binds, {})
    return Replayed(element, binds)


def element_of(recorded: Node | Recording) -> Any:
    """Return the Core element of a recording."""
    shape = recorded.shape
    if shape.op == LEAF:
        return shape.arg
    if isinstance(shape.op, str):  # a statement, or Core's own element
        return _replay(shape, iter(recorded.params), [], {})
    sample = None
    if shape.literals == 1 and len(recorded.params) == 1:
        sample = shape.meta
        if sample is None:
            sample = shape.meta = _sample_of(recorded)
    if sample is None or sample is _NO_SAMPLE:
        element = _replay(shape, iter(recorded.params), [], {})
    else:
        (value,) = recorded.params
        element = corelink.compare_with(sample, list(value) if shape.arg == "list" else value)
    vars(element)[_ORIGIN] = _Origin(element, recorded)
    return element


class _Origin:
    """Remember, in a Core element, the expression it was made from."""

    __slots__ = ("node", "owner")

    def __init__(self, element: Any = None, node: Any = None) -> None:
        # Core copies an element with all that is in it and then changes the copy: that is not ours any more.
        self.owner = None if element is None else ref(element)
        self.node = node

    def __reduce__(self) -> tuple[Any, ...]:
        return _Origin, ()


_ORIGIN = "sojourn_origin"


def origin_of(element: Any) -> Node | None:
    """Return the expression that a Core element was made from, None if Core made it or changed it."""
    origin = vars(element).get(_ORIGIN)
    if origin is None or origin.owner is None or origin.owner() is not element:
        return None
    node: Node = origin.node
    return node


def _sample_of(recorded: Node | Recording) -> Any:
    """Build a comparison with one literal; its like are copies, a fifth of the work of Core's operators.

    Nobody else gets to see it: what Core remembers in an element would be in the copies too.
    """
    binds: list[Any] = []
    element = _replay(recorded.shape, iter(recorded.params), binds, {})
    if not corelink.compares_with(element, binds[0]):
        return _NO_SAMPLE
    element.__class__ = Comparison
    return element


_NO_SAMPLE = object()


class Comparison(BinaryExpression[Any]):
    """Be Core's comparison, made from a recorded one."""

    inherit_cache = True

    def __clause_element__(self) -> Comparison:
        """Answer the question that Core asks what it got from a node: its `__getattr__` takes 3 us to say no.

        It would also leave a comparator behind that refers back to the element: work for the collector.
        """
        return self


def new_binds(element: Any, known: set[int]) -> list[Any]:
    """List the bind parameters inside *element* that are not *known*, in Core's order of traversal."""
    found: list[Any] = []
    for part in visitors.iterate(element):
        if isinstance(part, BindParameter) and id(part) not in known:
            known.add(id(part))
            found.append(part)
    return found


def binds_of(element: Any) -> set[int]:
    """Collect the identities of all bind parameters inside *element*."""
    return {id(part) for part in visitors.iterate(element) if isinstance(part, BindParameter)}


def _replay(shape: Shape, values: Iterator[Any], binds: list[Any], memo: dict[Shape, Any]) -> Any:
    # Chains and long AND/OR sequences lean to the left: walk that side without recursion.
    spine: list[Shape] = []
    base = shape
    while base.kids and base not in memo and base.op != SELECT:
        spine.append(base)
        base = base.kids[0]
    before = len(binds)
    if base in memo:
        element = memo[base]
    elif base.op == SELECT:
        element = _begin_select(base, values, binds, memo)
    elif base.op == CORE:
        element = _replay_core(base, values, binds)
    else:
        element = base.arg
    for step in reversed(spine):
        element = _apply(step, element, values, binds, memo)
        if len(binds) == before:
            # The same shape without literals is the same element, as it was one object to the caller:
            # ORDER BY a labelled column finds its label.
            memo[step] = element
    return element


def _apply(step: Shape, element: Any, values: Iterator[Any], binds: list[Any], memo: dict[Shape, Any]) -> Any:
    op = step.op
    if isinstance(op, str):
        return _apply_method(step, element, values, binds, memo)
    others = [_replay(kid, values, binds, memo) for kid in step.kids[1:]]
    if step.literals:
        literals = [next(values) for _ in range(step.literals)]
        known = binds_of(element)
        for other in others:
            known |= binds_of(other)
        given = [list(value) if type(value) is tuple and step.arg == "list" else value for value in literals]
        pattern = step.arg
        if isinstance(pattern, Pattern):
            built = op(*_fill(pattern, [element, *others], given))
        else:
            built = op(element, *others, *given)
        binds.extend(in_order(new_binds(built, known), given))
        return built
    if isinstance(step.arg, Pattern):
        return op(*_fill(step.arg, [element, *others], []))
    if step.arg is not None:
        return op(element, *others, *step.arg)
    return op(element, *others)


def _fill(pattern: Pattern, kids: list[Any], literals: list[Any]) -> list[Any]:
    """Place children and literals where the call had them."""
    kid, literal = iter(kids), iter(literals)
    return [
        next(kid) if entry == "kid" else next(literal) if entry == "literal" else entry[0]
        for entry in pattern
    ]


def in_order(found: list[Any], literals: list[Any]) -> list[Any]:
    """Put binds into the order of the literals they hold."""
    if len(found) != len(literals):
        msg = f"{len(literals)} literals became {len(found)} binds"
        raise AssertionError(msg)
    if len(found) == 1:
        return found
    rest = list(found)
    ordered = []
    for literal in literals:
        index = next((i for i, bind in enumerate(rest) if bind.value is literal), 0)
        ordered.append(rest.pop(index))
    return ordered


def _replay_core(shape: Shape, values: Iterator[Any], binds: list[Any]) -> Any:
    """Give a Core element seen before the literals at hand."""
    if not shape.literals:
        return shape.arg
    replacements: dict[int, Any] = {}
    for bind in shape.meta:
        fresh = corelink.with_value(bind, next(values))
        replacements[id(bind)] = fresh
        binds.append(fresh)

    def replace(part: Any, **_: Any) -> Any:
        return replacements.get(id(part))

    original: Any = shape.arg
    return visitors.replacement_traverse(original, {}, replace)  # type: ignore[call-overload]


def _begin_select(shape: Shape, values: Iterator[Any], binds: list[Any], memo: dict[Shape, Any]) -> Any:
    kids = iter(shape.kids)
    asked = [
        entry.__clause_element__() if entry is not None else _replay(next(kids), values, binds, memo)
        for entry in shape.arg
    ]
    return EntitySelect(*asked)


def _apply_method(
    step: Shape, statement: Any, values: Iterator[Any], binds: list[Any], memo: dict[Shape, Any]
) -> Any:
    """Apply one step of a statement's chain."""
    op = step.op
    if op in CHAINED:
        return getattr(statement, op)(_replay(step.kids[1], values, binds, memo))
    if op in ("limit", "offset"):
        if not step.literals:
            return statement.limit(step.arg)
        made = getattr(statement, op)(next(values))
        limit, offset = corelink.limit_binds(made)
        binds.append(limit if op == "limit" else offset)
        return made
    if op == "join":
        target, isouter, full = step.arg
        onclause = _replay(step.kids[1], values, binds, memo) if len(step.kids) > 1 else None
        return statement.join(target.__clause_element__(), onclause, isouter=isouter, full=full)
    if op == "select_from":
        return statement.select_from(step.arg.__clause_element__())
    if op == "distinct":
        return statement.distinct()
    raise AssertionError(op)
