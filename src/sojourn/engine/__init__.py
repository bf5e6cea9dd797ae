"""The engine: connections that perform requests, on SQLAlchemy's dialects and this project's pool."""

from sojourn.engine.async_connection import AsyncLane
from sojourn.engine.async_core import AsyncConnection, AsyncTransaction
from sojourn.engine.async_engine import AsyncEngine, create_async_engine
from sojourn.engine.async_result import AsyncMappingResult, AsyncResult, AsyncScalarResult
from sojourn.engine.connection import Connection
from sojourn.engine.corelane import CoreLane
from sojourn.engine.engine import Engine, OptionEngine, create_engine, engine_from_config

__all__ = [
    "AsyncConnection", "AsyncEngine", "AsyncLane", "AsyncMappingResult", "AsyncResult", "AsyncScalarResult",
    "AsyncTransaction", "Connection", "CoreLane", "Engine", "OptionEngine", "create_async_engine",
    "create_engine", "engine_from_config",
]  # fmt: skip
