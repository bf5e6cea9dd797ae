"""Rows and entities written in bulk through a session's transaction, without becoming part of the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sojourn.errors import BulkKey, FlushKeyMissing, ValueRefused
from sojourn.session.binds import class_of
from sojourn.session.merge import MergeCore
from sojourn.unitofwork import mappings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sojourn.flow import Flow


class BulkCore(MergeCore):
    """The bulk half of a session; no I/O."""

    def bulk_insert_flow(
        self, entity: Any, rows: Sequence[Mapping[str, Any]], return_defaults: bool, render_nulls: bool
    ) -> Flow[None]:
        """Insert rows given as dictionaries."""
        mapper = class_of(entity)
        yield from self._bulk_flow(
            mapper,
            lambda lane: mappings.bulk_insert_flow(lane, mapper, rows, return_defaults, render_nulls),
        )

    def bulk_update_flow(self, entity: Any, rows: Sequence[Mapping[str, Any]]) -> Flow[None]:
        """Update rows given as dictionaries with their primary key."""
        mapper = class_of(entity)
        yield from self._bulk_flow(mapper, lambda lane: mappings.bulk_update_flow(lane, mapper, rows))

    def bulk_save_flow(
        self, objects: Sequence[Any], return_defaults: bool, update_changed_only: bool
    ) -> Flow[None]:
        """Insert or update entities, class by class in their order."""
        groups: dict[Any, list[Any]] = {}
        for instance in objects:
            groups.setdefault(self.find_bind(self.state_for(instance).layout.mapper), []).append(instance)
        for members in groups.values():
            mapper = self.state_for(members[0]).layout.mapper
            yield from self._bulk_flow(
                mapper,
                lambda lane, members=members: mappings.bulk_save_flow(
                    lane, members, return_defaults, update_changed_only
                ),
            )

    def _bulk_flow(self, mapper: Any, write: Any) -> Flow[None]:
        """Run one bulk operation; a failure ends the transaction as that of a flush does."""
        lane = yield from self.lane_flow(self.find_bind(mapper))
        level = self.begin_transaction()
        try:
            yield from write(lane)
        except (BulkKey, FlushKeyMissing, ValueRefused):
            raise  # nothing was sent
        except Exception as error:
            yield from self._failed_flush_flow(level, error)
            raise
