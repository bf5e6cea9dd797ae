"""The pools that are compared, each behind the same two calls: take a connection, give it back."""

from __future__ import annotations

import importlib
import select
import socket
from typing import Any

SIZE = 5
TIMEOUT = 30.0


class FakeConnection:
    """A DB-API connection that does nothing, so that only the pool is measured."""

    def cursor(self, *_):
        return self

    def execute(self, *_):
        return None

    def rollback(self):
        pass

    def commit(self):
        pass

    def close(self):
        pass


class FakeDriver:
    """The module that DBUtils wants to see."""

    threadsafety = 2
    Error = OperationalError = InterfaceError = InternalError = ProgrammingError = ValueError

    @staticmethod
    def connect(*_, **__):
        return FakeConnection()


class Contender:
    """A pool of *size* connections, and no more."""

    name = ""
    needs: tuple[str, ...] = ()
    server = False  # whether it pools nothing but real connections

    def __init__(self, place: dict[str, Any], size: int = SIZE) -> None:
        raise NotImplementedError

    def take(self) -> Any:
        raise NotImplementedError

    def give(self, taken: Any) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


class Core(Contender):
    """Sojourn's pool for threads by itself: what a session uses, without listeners and proxies."""

    name = "sojourn, lease"
    polls = False

    def __init__(self, place, size=SIZE):
        from sojourn.pooling.core import Entry
        from sojourn.pooling.pool import Pool

        polls = self.polls

        class Handling:
            def connect(self):
                entry = Entry(FakeConnection())
                if polls:
                    entry.connection.sockets = socket.socketpair()
                    poll = select.poll()
                    poll.register(entry.connection.sockets[0], select.POLLIN | select.POLLRDHUP)
                    entry.poll = poll.poll
                return entry

            def close(self, entry, reason):
                for each in getattr(entry.connection, "sockets", ()):
                    each.close()

            def cut(self, entry):
                pass

            def serves(self, entry):
                return True

            def is_transient(self, error):
                return False

            is_hopeless = is_transient

            def leaked(self, lease):
                pass

        self.pool = Pool(Handling(), size=size, overflow=0, timeout=TIMEOUT, inline=True)
        self.take, self.give = self.pool.acquire, self.pool.release

    def close(self):
        self.pool.close(0)


class CoreWithSocket(Core):
    """The same with connections that have a socket, which is asked at each lease."""

    name = "sojourn, lease, socket asked"
    polls = True


class Queue(Contender):
    """Sojourn's QueuePool, through SQLAlchemy's interface."""

    name = "sojourn"

    def __init__(self, place, size=SIZE):
        from sojourn.pool import QueuePool

        self.pool = QueuePool(FakeConnection, pool_size=size, max_overflow=0, timeout=TIMEOUT)
        self.take = self.pool.connect

    def give(self, taken):
        taken.close()

    def close(self):
        self.pool.dispose()


class SqlalchemyQueue(Queue):
    name = "sqlalchemy"

    def __init__(self, place, size=SIZE):
        from sqlalchemy.pool import QueuePool

        self.pool = QueuePool(FakeConnection, pool_size=size, max_overflow=0, timeout=TIMEOUT)
        self.take = self.pool.connect


class PsycopgPool(Contender):
    name = "psycopg_pool"
    needs = ("psycopg_pool",)
    server = True

    def __init__(self, place, size=SIZE):
        from psycopg_pool import ConnectionPool

        self.pool = ConnectionPool(place["dsn"], min_size=size, max_size=size, timeout=TIMEOUT, open=True)
        self.pool.wait()
        self.take, self.give = self.pool.getconn, self.pool.putconn

    def close(self):
        self.pool.close()


class DBUtils(Contender):
    name = "dbutils"
    needs = ("dbutils",)

    def __init__(self, place, size=SIZE):
        from dbutils.pooled_db import PooledDB

        self.pool = PooledDB(FakeDriver, mincached=size, maxcached=size, maxconnections=size, blocking=True)
        self.take = self.pool.connection

    def give(self, taken):
        taken.close()

    def close(self):
        self.pool.close()


class NoPool(Contender):
    """The ideal: nothing to wait for, nothing to do."""

    name = "no pool"

    def __init__(self, place, size=SIZE):
        pass

    def take(self):
        return None

    def give(self, taken):
        pass


UNCONTENDED = (Core, CoreWithSocket, Queue, SqlalchemyQueue, PsycopgPool, DBUtils)
FAIRNESS = (Queue, SqlalchemyQueue, PsycopgPool, DBUtils)


# -- engines -----------------------------------------------------------------------------------


def engines(kind: str, **options: Any) -> dict[str, Any]:
    """Return sojourn's and SQLAlchemy's engine on the URL *kind*."""
    import sqlalchemy

    import sojourn

    return {
        "sojourn": sojourn.create_engine(kind, **options),
        "sqlalchemy": sqlalchemy.create_engine(kind, **options),
    }


# -- asyncio -----------------------------------------------------------------------------------


class AsyncContender:
    """A pool of *size* connections in an event loop."""

    name = ""
    needs: tuple[str, ...] = ()

    async def open(self, place: dict[str, Any], size: int = SIZE) -> None:
        raise NotImplementedError

    async def take(self) -> Any:
        raise NotImplementedError

    async def give(self, taken: Any) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        pass


class AsyncCore(AsyncContender):
    """Sojourn's pool for event loops by itself, with connections that do nothing."""

    name = "sojourn, lease"

    async def open(self, place, size=SIZE):
        from sojourn.pooling.async_pool import AsyncPool, Handling
        from sojourn.pooling.core import Entry

        class Fakes(Handling):
            async def connect(self):
                return Entry(FakeConnection())

        self.pools = AsyncPool(Fakes(), size=size, overflow=0, timeout=TIMEOUT)
        self.pool = self.pools.here()
        self.take = self.pool.acquire

    async def give(self, taken):
        self.pool.release(taken)

    async def close(self):
        await self.pools.close()


class AsyncEngine(AsyncContender):
    name = "sojourn"
    needs = ("asyncpg",)

    async def open(self, place, size=SIZE):
        from sojourn.ext.asyncio import create_async_engine

        self.engine = create_async_engine(place["url"], pool_size=size, max_overflow=0, pool_timeout=TIMEOUT)

    async def take(self):
        return await self.engine.connect()

    async def give(self, taken):
        await taken.close()

    async def close(self):
        await self.engine.dispose()


class SqlalchemyAsync(AsyncEngine):
    name = "sqlalchemy"
    needs = ("asyncpg", "greenlet")

    async def open(self, place, size=SIZE):
        from sqlalchemy.ext.asyncio import create_async_engine

        self.engine = create_async_engine(place["url"], pool_size=size, max_overflow=0, pool_timeout=TIMEOUT)


class AsyncPsycopg(AsyncContender):
    name = "psycopg_pool"
    needs = ("psycopg_pool",)

    async def open(self, place, size=SIZE):
        from psycopg_pool import AsyncConnectionPool

        self.pool = AsyncConnectionPool(
            place["dsn"], min_size=size, max_size=size, timeout=TIMEOUT, open=False
        )
        await self.pool.open(wait=True)
        self.take, self.give = self.pool.getconn, self.pool.putconn

    async def close(self):
        await self.pool.close()


class AsyncpgPool(AsyncContender):
    name = "asyncpg"
    needs = ("asyncpg",)

    async def open(self, place, size=SIZE):
        import asyncpg

        self.pool = await asyncpg.create_pool(
            host=place["host"], port=place["port"], user=place["user"], database=place["name"],
            password=place["password"] or None, min_size=size, max_size=size,
        )  # fmt: skip

    async def take(self):
        return await self.pool.acquire(timeout=TIMEOUT)

    async def give(self, taken):
        await self.pool.release(taken)

    async def close(self):
        await self.pool.close()


ASYNC = (AsyncCore, AsyncEngine, SqlalchemyAsync, AsyncPsycopg, AsyncpgPool)


def missing(kind: Any) -> str | None:
    """Return why a contender cannot take part here, or None."""
    for module in kind.needs:
        try:
            importlib.import_module(module)
        except ImportError as error:
            return f"{module} is not installed ({error})"
    return None
