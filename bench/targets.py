"""What the table must reach: multiples of the raw driver, or absolute figures where there is no driver."""

from __future__ import annotations

#: microseconds per operation
ABSOLUTE = {"a_construct": 0.50, "h_get_hot": 0.15, "q_get": 0.025, "q_set": 0.050}

_MEMORY = {"r_memory5": 2.1, "r_memory20": 1.3}
RATIOS: dict[str, dict[str, float]] = {
    "sqlite": {
        "b_insert": 1.6, "c_insert_keys": 1.75, "d_bulk": 1.2,
        "e_load5": 1.5, "e_load20": 1.25, "e_typed": 1.15, "f_rows": 1.2,
        "g_get": 1.35, "i_select": 1.6, "i_query": 1.6, "i_core": 7.0,
        "j_request": 2.0, "k_update": 1.6, "l_delete": 2.0, "p_savepoint": 1.8, **_MEMORY,
    },
    "postgresql": {
        "b_insert": 1.25, "c_insert_keys": 1.2, "d_bulk": 1.1,
        "e_load5": 1.4, "e_load20": 1.2, "e_typed": 1.1, "f_rows": 1.2,
        "g_get": 1.1, "i_select": 1.15, "i_query": 1.15, "i_core": 2.0,
        "j_request": 1.25, "k_update": 1.25, "l_delete": 1.6, "p_savepoint": 1.2, **_MEMORY,
    },
    "mariadb": {"k_update": 1.4, "l_delete": 1.2},
    "aiosqlite": {"e_load5": 1.6},
    "asyncpg": {"g_get": 1.2, "e_load5": 1.6},
}  # fmt: skip

#: A figure counts as reached within 15 %: three times the spread seen between runs.
TOLERANCE = 1.15
#: Small work, 5 % of the size, may cost this much more of the same target.
SMALL = 1.5
#: The uncompiled kernel against the compiled one.
UNCOMPILED = 2.5


def limit(database: str, workload: str, scale: float) -> tuple[float, bool] | None:
    """Return the target and whether it is absolute, or None when the issue sets none."""
    ease = SMALL if scale <= 0.1 else 1.0
    if workload in ABSOLUTE:
        return ABSOLUTE[workload] * ease, True
    ratio = RATIOS[database].get(workload)
    return None if ratio is None else (ratio * ease, False)
