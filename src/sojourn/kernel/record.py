# cython: language_level=3, annotation_typing=False, nonecheck=True
"""Record expressions as interned shapes plus a tuple of literals.

A `Shape` says how something was built; a transition table in each shape leads to the next one, so that two
expressions built the same way share one shape *object*, which therefore is their plan-cache key. What may
differ between executions, the literals, travels beside it in `params`: those of the children from left to
right, then the node's own.

The recorder knows no SQL. Operations are plain callables that a replay applies to whatever the leaves stand
for. The first time a transition is asked for, and whenever one depends on the value, the hooks given to
`install` decide; afterwards a step is one look-up: 0.15 us for `User.id == 5` (`bench` workload h).
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any
from weakref import ref

try:
    import cython
except ImportError:
    from sojourn import _cython as cython

from sojourn.kernel import operations as _ops

if cython.compiled:
    from cython.cimports.sojourn.kernel._capi import sj_allocate
    from cython.cimports.sojourn.kernel.binding import Binder
else:
    from sojourn.kernel._plain import sj_allocate
    from sojourn.kernel.binding import Binder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Operation = Callable[..., Any]
    Hook = Callable[..., Any]

# Beyond so many shapes the roots forget their transitions: old shapes stay valid, memory stays bounded (about
# 1.2 kB for a chain of three steps).
MAX_SHAPES = 20_000

# `literals` of a shape that only says "ask the hook each time": the result depends on the literal's value.
DEPENDS_ON_VALUE = -1


@cython.cclass
class Shape:
    """Stand for one way of building something; never compared by content, always by identity."""

    if not cython.compiled:
        __slots__ = ("__weakref__", "arg", "kids", "literals", "meta", "op", "plan", "trans")

    op: Any  # an operation, or a word the replay knows
    arg: Any  # what belongs to the operation and is no child
    kids: tuple[Shape, ...]
    literals: int  # how many of its own
    trans: dict[Any, Shape] | None
    plan: Any  # the plan last used; it knows for which cache
    meta: Any  # for the floors above

    def __init__(
        self, op: Any, arg: Any = None, kids: tuple[Shape, ...] = (), literals: int = 0, meta: Any = None
    ) -> None:
        self.op = op
        self.arg = arg
        self.kids = kids
        self.literals = literals
        self.trans = None
        self.plan = None
        self.meta = meta

    def __repr__(self) -> str:
        name = getattr(self.op, "__name__", self.op)
        return f"<Shape {name} kids={len(self.kids)} literals={self.literals}>"


_roots: list[ref[Shape]] = []
_count = [0]


def root(op: Any, arg: Any = None, meta: Any = None) -> Shape:
    """Make a shape without a parent, known to the growth limit."""
    shape = Shape(op, arg, (), 0, meta)
    if len(_roots) % 1024 == 1023:
        _roots[:] = [known for known in _roots if known() is not None]
    _roots.append(ref(shape))
    return shape


def forget() -> None:
    """Drop every root's transitions; statements built from now on get fresh shapes and compile again."""
    for known in list(_roots):
        shape = known()
        if shape is not None:
            shape.trans = None
    _count[0] = 0


def shape_count() -> int:
    """Count the shapes made since the roots were last emptied."""
    return _count[0]


@cython.locals(trans=dict)
def step(
    shape: Shape, key: Any, op: Any, arg: Any = None, kids: tuple[Shape, ...] = (), literals: int = 0
) -> Shape:
    """Find or create the shape that `key` leads to from `shape`."""
    trans = shape.trans
    if trans is None:
        if _count[0] >= MAX_SHAPES:
            forget()
        trans = shape.trans = {}  # two threads at once: the shapes of one are made again
    found = trans.get(key)
    if found is None:
        _count[0] += 1
        # setdefault: two threads may both get here, and identity must stay canonical.
        found = trans.setdefault(key, Shape(op, arg, kids, literals))
    return found


@cython.locals(node="Node")
def make_node(shape: Shape, params: tuple[Any, ...]) -> Node:
    """Make an expression of a shape and its literals."""
    node = Node.__new__(Node)
    node.shape = shape
    node.params = params
    return node


# -- hooks -------------------------------------------------------------------------------------------------


def _not_installed(*_: Any) -> Any:
    raise TypeError("nothing is recorded before sojourn.statements is imported")


_record: Hook = _not_installed
_record_unary: Hook = _not_installed
_record_in: Hook = _not_installed
_record_between: Hook = _not_installed
_leaf: Hook = _not_installed
_core: Hook = _not_installed


def install(
    record: Hook, record_unary: Hook, record_in: Hook, record_between: Hook, leaf: Hook, element: Hook
) -> None:
    """Give the recorder the functions that know what is being built.

    `record(node, op, operand)`, `record_unary(node, op)`, `record_in(node, op, operand)` and
    `record_between(node, op, low, high)` serve transitions seen for the first time or dependent on the value;
    `leaf(value)` turns a foreign element into a node, or gives None where it can't be recorded;
    `element(node_or_recording)` replays.
    """
    global _record, _record_unary, _record_in, _record_between, _leaf, _core
    _record = record
    _record_unary = record_unary
    _record_in = record_in
    _record_between = record_between
    _leaf = leaf
    _core = element


# -- expressions -------------------------------------------------------------------------------------------

_eq, _ne, _lt, _le = operator.eq, operator.ne, operator.lt, operator.le
_gt, _ge, _and, _or = operator.gt, operator.ge, operator.and_, operator.or_
_add, _sub, _mul, _mod = operator.add, operator.sub, operator.mul, operator.mod
_truediv, _floordiv, _invert, _neg = operator.truediv, operator.floordiv, operator.inv, operator.neg
_between, _label = _ops.between, _ops.label


@cython.cfunc
@cython.locals(a="Node", node="Node", found=Shape, trans=dict)
def _binary(a: Node, other: Any, op: Operation) -> Any:
    """Record `op` between a node and anything."""
    trans = a.shape.trans
    if isinstance(other, Node):
        node = other
        if trans is not None:
            hit = trans.get((op, node.shape))
            if hit is not None:
                found = hit
                if found.literals >= 0:
                    return make_node(found, a.params + node.params)
        return _record(a, op, other)
    if trans is not None:
        if other is None or other is True or other is False:
            hit = trans.get((op, other))
            if hit is not None:
                return make_node(hit, a.params)
        else:
            hit = trans.get((op, type(other)))
            if hit is not None:
                found = hit
                if found.literals > 0:
                    return make_node(found, (*a.params, other) if a.params else (other,))
    return _record(a, op, other)


@cython.cfunc
@cython.locals(a="Node", trans=dict)
def _unary(a: Node, op: Operation) -> Any:
    """Record `op` on a node."""
    trans = a.shape.trans
    hit = None if trans is None else trans.get(op)
    return _record_unary(a, op) if hit is None else make_node(hit, a.params)


@cython.cfunc
@cython.locals(a="Node", items=tuple, found=Shape, trans=dict)
def _membership(a: Node, other: Any, op: Operation) -> Any:
    """Record `in_` or `not_in`: element type in the shape, the whole list one literal."""
    kind = type(other)
    if kind is list or kind is set or kind is frozenset or kind is range:
        items = tuple(other)
    elif kind is tuple:
        items = other
    else:
        return _record_in(a, op, other)
    first = type(items[0]) if items else None
    trans = a.shape.trans
    if trans is not None:
        hit = trans.get((op, first))
        if hit is not None:
            found = hit
            if found.literals > 0 and _uniform(items, first):
                return make_node(found, (*a.params, items) if a.params else (items,))
    return _record_in(a, op, items)


@cython.cfunc
@cython.locals(items=tuple)
def _uniform(items: tuple[Any, ...], kind: Any) -> Any:
    """Tell whether all items are of exactly this type."""
    for item in items:
        if type(item) is not kind:
            return False
    return True


@cython.cclass
class Node:
    """Be one recorded expression: a shape and its literals."""

    if not cython.compiled:
        __slots__ = ("params", "shape")

    shape: Shape
    params: tuple[Any, ...]

    is_clause_element = False  # Core asks for __clause_element__ only while this is falsy

    def __hash__(self) -> int:
        return id(self) >> 4

    def __eq__(self, other: object) -> Any:
        return _binary(self, other, _eq)

    def __ne__(self, other: object) -> Any:
        return _binary(self, other, _ne)

    def __lt__(self, other: Any) -> Any:
        return _binary(self, other, _lt)

    def __le__(self, other: Any) -> Any:
        return _binary(self, other, _le)

    def __gt__(self, other: Any) -> Any:
        return _binary(self, other, _gt)

    def __ge__(self, other: Any) -> Any:
        return _binary(self, other, _ge)

    def __add__(self, other: Any) -> Any:
        return _binary(self, other, _add)

    def __radd__(self, other: Any) -> Any:
        return _binary(self, other, _ops.radd)

    def __sub__(self, other: Any) -> Any:
        return _binary(self, other, _sub)

    def __rsub__(self, other: Any) -> Any:
        return _binary(self, other, _ops.rsub)

    def __mul__(self, other: Any) -> Any:
        return _binary(self, other, _mul)

    def __rmul__(self, other: Any) -> Any:
        return _binary(self, other, _ops.rmul)

    def __truediv__(self, other: Any) -> Any:
        return _binary(self, other, _truediv)

    def __rtruediv__(self, other: Any) -> Any:
        return _binary(self, other, _ops.rtruediv)

    def __floordiv__(self, other: Any) -> Any:
        return _binary(self, other, _floordiv)

    def __rfloordiv__(self, other: Any) -> Any:
        return _binary(self, other, _ops.rfloordiv)

    def __mod__(self, other: Any) -> Any:
        return _binary(self, other, _mod)

    def __rmod__(self, other: Any) -> Any:
        return _binary(self, other, _ops.rmod)

    def __and__(self, other: Any) -> Any:
        return _binary(self, other, _and)

    def __rand__(self, other: Any) -> Any:
        return _binary(self, other, _ops.rand)

    def __or__(self, other: Any) -> Any:
        return _binary(self, other, _or)

    def __ror__(self, other: Any) -> Any:
        return _binary(self, other, _ops.ror)

    def __invert__(self) -> Any:
        return _unary(self, _invert)

    def __neg__(self) -> Any:
        return _unary(self, _neg)

    def __lshift__(self, other: Any) -> Any:
        return _core(self) << other

    def __rshift__(self, other: Any) -> Any:
        return _core(self) >> other

    def __contains__(self, other: object) -> Any:
        return other in _core(self)

    def __getitem__(self, index: Any) -> Any:
        return _core(self)[index]

    @cython.locals(shape=Shape)
    def __bool__(self) -> bool:
        # `column in [column, ...]` and list.index compare with ==: identical sides are equal, as in Core.
        shape = self.shape
        if len(shape.kids) == 2 and shape.literals == 0 and not self.params:
            if shape.op is _eq:
                return shape.kids[0] is shape.kids[1]
            if shape.op is _ne:
                return shape.kids[0] is not shape.kids[1]
        raise TypeError("Boolean value of this clause is not defined")

    def in_(self, other: Any) -> Any:
        """Test membership in a list of any length, also an empty one, or in a subquery."""
        return _membership(self, other, _ops.in_)

    def not_in(self, other: Any) -> Any:
        """Test that it is not a member of a list or subquery."""
        return _membership(self, other, _ops.not_in)

    notin_ = not_in

    def like(self, other: Any, escape: Any = None) -> Any:
        """Compare with a LIKE pattern."""
        return _binary(self, other, _ops.like) if escape is None else _core(self).like(other, escape)

    def not_like(self, other: Any, escape: Any = None) -> Any:
        """Compare with a LIKE pattern, negated."""
        return ~self.like(other, escape) if escape is not None else _binary(self, other, _ops.not_like)

    def ilike(self, other: Any, escape: Any = None) -> Any:
        """Compare with a LIKE pattern, case-insensitively."""
        return _binary(self, other, _ops.ilike) if escape is None else _core(self).ilike(other, escape)

    def not_ilike(self, other: Any, escape: Any = None) -> Any:
        """Compare with a LIKE pattern, case-insensitively, negated."""
        return ~self.ilike(other, escape) if escape is not None else _binary(self, other, _ops.not_ilike)

    notlike = not_like
    notilike = not_ilike

    def startswith(self, other: Any, *more: Any, **options: Any) -> Any:
        """Test how the text begins."""
        if more or options:
            return _core(self).startswith(other, *more, **options)
        return _binary(self, other, _ops.startswith)

    def endswith(self, other: Any, *more: Any, **options: Any) -> Any:
        """Test how the text ends."""
        if more or options:
            return _core(self).endswith(other, *more, **options)
        return _binary(self, other, _ops.endswith)

    def contains(self, other: Any, *more: Any, **options: Any) -> Any:
        """Test whether the text contains another."""
        if more or options:
            return _core(self).contains(other, *more, **options)
        return _binary(self, other, _ops.contains)

    def concat(self, other: Any) -> Any:
        """Join two texts."""
        return _binary(self, other, _ops.concat)

    def is_(self, other: Any) -> Any:
        """Compare with IS."""
        return _binary(self, other, _ops.is_)

    def is_not(self, other: Any) -> Any:
        """Compare with IS NOT."""
        return _binary(self, other, _ops.is_not)

    isnot = is_not

    def is_distinct_from(self, other: Any) -> Any:
        """Compare so that NULL equals NULL, negated."""
        return _binary(self, other, _ops.is_distinct_from)

    def is_not_distinct_from(self, other: Any) -> Any:
        """Compare so that NULL equals NULL."""
        return _binary(self, other, _ops.is_not_distinct_from)

    isnot_distinct_from = is_not_distinct_from

    @cython.locals(found=Shape, trans=dict)
    def between(self, cleft: Any, cright: Any, symmetric: Any = False) -> Any:
        """Test that it lies between two values, both included."""
        if symmetric:
            return _core(self).between(cleft, cright, symmetric=symmetric)
        trans = self.shape.trans
        hit = None if trans is None else trans.get((_between, type(cleft), type(cright)))
        if hit is not None:
            found = hit
            if found.literals > 0:
                return make_node(found, (*self.params, cleft, cright))
        return _record_between(self, _between, cleft, cright)

    def desc(self) -> Any:
        """Order descending."""
        return _unary(self, _ops.desc)

    def asc(self) -> Any:
        """Order ascending."""
        return _unary(self, _ops.asc)

    def nulls_first(self) -> Any:
        """Order NULL before everything else."""
        return _unary(self, _ops.nulls_first)

    def nulls_last(self) -> Any:
        """Order NULL after everything else."""
        return _unary(self, _ops.nulls_last)

    nullsfirst = nulls_first
    nullslast = nulls_last

    def distinct(self) -> Any:
        """Take distinct values."""
        return _unary(self, _ops.distinct)

    @cython.locals(shape=Shape)
    def label(self, name: Any) -> Any:
        """Name it in the result."""
        if name is not None and type(name) is not str:
            return _core(self).label(name)
        shape = self.shape
        return make_node(step(shape, (_label, name), _label, (name,), (shape,), 0), self.params)

    def __clause_element__(self) -> Any:
        return _core(self)

    def __getattr__(self, name: str) -> Any:
        # Whatever is not recorded: build the real element and let it answer.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_core(self), name)

    def __str__(self) -> str:
        return str(_core(self))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.shape!r}>"


# -- statements --------------------------------------------------------------------------------------------


@cython.locals(new="Recording")
def make_recording(kind: type[Any], shape: Shape, params: tuple[Any, ...]) -> Any:
    """Make a recording of the class `kind`."""
    new = sj_allocate(kind)
    new.shape = shape
    new.params = params
    return new


_start: list[Any] = []


@cython.locals(trans=dict, beginning=Shape)
def begin(*entities: Any) -> Any:
    """Begin a recording; `start_with` says of which class, from which root, and who records a new one."""
    kind, beginning, anew = _start
    trans = beginning.trans
    try:
        hit = None if trans is None else trans.get(entities)
    except TypeError:  # something unhashable is among them
        hit = None
    return anew(entities) if hit is None else make_recording(kind, hit, ())


def start_with(kind: type[Any], beginning: Shape, anew: Hook) -> None:
    """Say what `begin` makes."""
    _start[:] = kind, beginning, anew


@cython.cclass
class Recording:
    """Be one recorded statement: each step leads to another shape, the last one is the cache key."""

    if not cython.compiled:
        __slots__ = ("params", "shape")

    shape: Shape
    params: tuple[Any, ...]

    is_clause_element = False

    @cython.locals(plan=Binder)
    def plan_for(self, token: object) -> Any:
        """Find the plan compiled for this shape under a plan cache's token, or None.

        The token is read off the plan, not off the shape: two engines may take turns in the one slot, and a
        reader must never see the token of one beside the plan of the other.
        """
        held = self.shape.plan
        if held is not None:
            plan = held
            if plan.token is token:
                return held
        return None

    @cython.locals(shape=Shape, params=tuple, node=Node, trans=dict)
    def where(self, *criteria: Any) -> Any:
        """Add criteria, all of which must hold."""
        shape = self.shape
        params = self.params
        for criterion in criteria:
            found = criterion if isinstance(criterion, Node) else _leaf(criterion)
            if found is None:
                return _core(self).where(*criteria)
            node = found
            trans = shape.trans
            hit = None if trans is None else trans.get(node.shape)
            shape = step(shape, node.shape, "where", None, (shape, node.shape), 0) if hit is None else hit
            if node.params:
                params = params + node.params if params else node.params
        return make_recording(type(self), shape, params)

    @cython.locals(shape=Shape, params=tuple, node=Node)
    def extend(self, op: str, clauses: Iterable[Any]) -> Any:
        """Add one step for each clause: `op` is the name of the builder's method."""
        shape = self.shape
        params = self.params
        for clause in clauses:
            found = clause if isinstance(clause, Node) else _leaf(clause)
            if found is None:
                return getattr(_core(self), op)(*clauses)
            node = found
            shape = step(shape, (op, node.shape), op, None, (shape, node.shape), 0)
            if node.params:
                params = params + node.params if params else node.params
        return make_recording(type(self), shape, params)

    def extend_literal(self, op: str, value: Any) -> Any:
        """Add one step whose operand is a literal."""
        shape = step(self.shape, op, op, None, (self.shape,), 1)
        return make_recording(type(self), shape, (*self.params, value))

    def extend_constant(self, op: str, arg: Any) -> Any:
        """Add one step whose operand is part of the shape."""
        return make_recording(type(self), step(self.shape, (op, arg), op, arg, (self.shape,), 0), self.params)

    @cython.locals(node=Node)
    def extend_with(self, op: str, arg: Any, node: Node) -> Any:
        """Add one step with a constant and a node."""
        shape = step(self.shape, (op, arg, node.shape), op, arg, (self.shape, node.shape), 0)
        return make_recording(type(self), shape, self.params + node.params)

    def __clause_element__(self) -> Any:
        return _core(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_core(self), name)

    def __str__(self) -> str:
        return str(_core(self))
