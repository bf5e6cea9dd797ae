"""Private names of Core by which a pool learns what is sent on its connections."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine.base import Connection as CoreConnection


class SeeingConnection(CoreConnection):
    """Core's Connection, which first shows each statement to a proxy that wants to see."""

    def _execute_context(self, dialect: Any, constructor: Any, statement: Any, *args: Any, **kw: Any) -> Any:
        see = getattr(self._dbapi_connection, "see", None)
        if see is not None:
            see(statement if type(statement) is str else str(statement))
        return super()._execute_context(dialect, constructor, statement, *args, **kw)


def is_told_on_connect(pool: Any) -> bool:
    """Tell whether anybody but Core itself tells each new connection of *pool* something."""
    return any(getattr(listener, "__module__", "") not in _CORES_OWN for listener in pool.dispatch.connect)


#: Where Core's own listeners come from; those told once, by the first connection, are wrapped in the second.
_CORES_OWN = {"sqlalchemy.engine.create", "sqlalchemy.util.langhelpers"}
