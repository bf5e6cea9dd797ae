"""The pool classes by SQLAlchemy's names; `sqlalchemy.create_engine(poolclass=...)` takes them too."""

from sqlalchemy.pool import (
    ConnectionPoolEntry as ConnectionPoolEntry,
)
from sqlalchemy.pool import (
    ManagesConnection as ManagesConnection,
)
from sqlalchemy.pool import (
    Pool as Pool,
)
from sqlalchemy.pool import (
    PoolProxiedConnection as PoolProxiedConnection,
)
from sqlalchemy.pool import (
    PoolResetState as PoolResetState,
)

from sojourn.engine.pools import (
    AssertionPool as AssertionPool,
)
from sojourn.engine.pools import (
    AsyncAdaptedQueuePool as AsyncAdaptedQueuePool,
)
from sojourn.engine.pools import (
    NullPool as NullPool,
)
from sojourn.engine.pools import (
    QueuePool as QueuePool,
)
from sojourn.engine.pools import (
    SingletonThreadPool as SingletonThreadPool,
)
from sojourn.engine.pools import (
    StaticPool as StaticPool,
)
from sojourn.pooling.scaling import Autoscaler as Autoscaler
from sojourn.pooling.stats import LeaseInfo as LeaseInfo
from sojourn.pooling.stats import PoolStats as PoolStats
