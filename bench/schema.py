"""The tables, as identical plain DDL for every contender on a database."""

from __future__ import annotations

from bench import data

_TYPES = {
    "sqlite": {
        "key": "INTEGER PRIMARY KEY",
        "json": "JSON",
        "stamp": "DATETIME",
        "float": "FLOAT",
        "bool": "BOOLEAN",
    },
    "postgresql": {
        "key": "SERIAL PRIMARY KEY",
        "json": "JSON",
        "stamp": "TIMESTAMP",
        "float": "DOUBLE PRECISION",
        "bool": "BOOLEAN",
    },
    "mariadb": {
        "key": "INTEGER AUTO_INCREMENT PRIMARY KEY",
        "json": "JSON",
        "stamp": "DATETIME(6)",
        "float": "DOUBLE",
        "bool": "BOOLEAN",
    },
}
#: person is only read, member is updated, guest is filled and emptied.
TABLES = {
    "person": data.PERSON,
    "member": data.PERSON,
    "guest": data.PERSON,
    "wide": data.WIDE,
    "typed": data.TYPED,
}
ROWS = {
    "person": data.person,
    "member": data.person,
    "guest": data.person,
    "wide": data.wide,
    "typed": data.typed,
}


def statements(database: str) -> list[str]:
    """List the CREATE statements for `database`: sqlite, postgresql or mariadb."""
    types = _TYPES[database]
    found = []
    for table in ("person", "member", "guest"):
        found.append(
            f"CREATE TABLE {table} (id {types['key']}, name VARCHAR(60) NOT NULL, email VARCHAR(80) NOT NULL,"
            " age INTEGER NOT NULL, city VARCHAR(40) NOT NULL)"
        )
        found.append(f"CREATE INDEX {table}_name ON {table} (name)")
        found.append(f"CREATE INDEX {table}_email ON {table} (email)")
    kinds = {"n": "INTEGER", "t": "VARCHAR(60)", "x": types["float"]}
    columns = ", ".join(f"{name} {kinds[name[0]]} NOT NULL" for name in data.WIDE[1:])
    found.append(f"CREATE TABLE wide (id {types['key']}, {columns})")
    found.append(
        f"CREATE TABLE typed (id {types['key']}, born DATE NOT NULL, seen {types['stamp']} NOT NULL,"
        f" balance NUMERIC(12, 2) NOT NULL, active {types['bool']} NOT NULL,"
        f" settings {types['json']} NOT NULL)"
    )
    return found
