"""Tell by a statement's text whether it may change what a server session remembers beyond its transaction.

A connection whose session may have changed is cleaned before somebody else gets it. A wrong yes costs a round
trip, a wrong no lets one user's settings, locks or temporary tables reach the next: so what is not understood
is a yes. What functions, triggers and procedures of the database do inside is not seen; CALL and DO are a
yes.

A text is read once per plan. It is cut into statements where a semicolon stands outside of strings, quoted
names and comments; the first words of each decide, and a few functions and assignments wherever they stand.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

LONG = 10_000  # characters; longer texts are rarely the same twice, and would fill the memory

#: First words of statements that change the session, by dialect.
_VERBS: Final = {
    "postgresql": re.compile(
        r"""
        SET\b(?!\s+(?:LOCAL|TRANSACTION|CONSTRAINTS)\b) | RESET\b | DISCARD\b | LISTEN\b | UNLISTEN\b
      | LOAD\b | PREPARE\b(?!\s+TRANSACTION\b) | EXECUTE\b | DEALLOCATE\b | DO\b | CALL\b
      | DECLARE\b.*\bWITH\s+HOLD\b
      | CREATE\s+(?:OR\s+REPLACE\s+)?(?:(?:GLOBAL|LOCAL)\s+)?TEMP | EXPLAIN\b.*\b(?:EXECUTE|TEMP)
        """,
        re.VERBOSE | re.IGNORECASE | re.DOTALL,
    ),
    "mysql": re.compile(
        r"""
        SET\b(?!\s+TRANSACTION\b) | USE\b | LOCK\b | FLUSH\b | HANDLER\b | PREPARE\b | EXECUTE\b
      | DEALLOCATE\b | DROP\s+PREPARE\b | CREATE\s+(?:OR\s+REPLACE\s+)?TEMPORARY\b | CALL\b | DO\b | XA\b
      | BEGIN\s+NOT\b
      | DECLARE\b | IF\b | CASE\b | LOOP\b | WHILE\b | FOR\b | REPEAT\b
        """,
        re.VERBOSE | re.IGNORECASE | re.DOTALL,
    ),
    "sqlite": re.compile(
        r"""
        ATTACH\b | DETACH\b | CREATE\s+TEMP
      | PRAGMA\b(?!\s+(?:\w+\s*\.\s*)?(?:
            \w+\s*$ | (?:table_x?info|table_list|index_x?info|index_list|foreign_key_list|foreign_key_check
            |integrity_check|quick_check|optimize|wal_checkpoint)\b))
        """,
        re.VERBOSE | re.IGNORECASE | re.DOTALL,
    ),
}
#: What changes the session wherever it stands, looked for in strings and comments too.
_ANYWHERE: Final = {
    "postgresql": re.compile(
        r"""
        \bset_config\b | advisory_lock | \bsetseed\b | \bset_limit\b | \bdblink_connect | \bpg_temp\b
      | \bINTO\s+(?:(?:GLOBAL|LOCAL)\s+)?TEMP
        """,
        re.VERBOSE | re.IGNORECASE,
    ),
    "mysql": re.compile(r":= | \bINTO\s+@ | \bGET_LOCK\b | /\*M?!", re.VERBOSE | re.IGNORECASE),
    "sqlite": re.compile(
        r"""\bload_extension\b | \b(?:INTO|TABLE|VIEW|TRIGGER|UPDATE|EXISTS)\s+["'`\[]?temp["'`\]]?\s*\.""",
        re.VERBOSE | re.IGNORECASE,
    ),
}
#: What looks like it, and ends with the transaction, or ends something.
_HARMLESS: Final = re.compile(
    r"""
    \bset_config\s*\(\s*(?:'[^'\\]*'|[$%:]\w+)\s*,\s*(?:'[^'\\]*'|[$%:]\w+)\s*,\s*(?:'t(?:rue)?'|true)\s*\)
    """,
    re.VERBOSE | re.IGNORECASE,
)
#: First words that change nothing in any database.
_PLAIN: Final = re.compile(
    r"[\s(]*(?:SELECT|INSERT|UPDATE|DELETE|WITH|VALUES|TABLE|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)\b",
    re.IGNORECASE,
)
_TOKEN: Final = re.compile(
    r"""
    (?P<skip>
        '(?:[^'\\]|''|\\.)*'
      | "(?:[^"\\]|""|\\.)*"
      | `[^`]*`
      | \$(?P<tag>[A-Za-z_]\w*|)\$.*?\$(?P=tag)\$   # PostgreSQL's dollar quotes
      | --[^\n]* | \#[^\n]*                         # which of them is a comment depends, see _split
      | /\*.*?\*/
    )
  | (?P<end>;)
  | [^'"`$;/#-]+ | .
    """,
    re.VERBOSE | re.DOTALL,
)
_MYSQL_NAMES: Final = {"mysql", "mariadb"}


def changes_session(text: str, dialect: str) -> bool:
    """Tell whether *text* may change session state that outlives its transaction, in a database's dialect."""
    return _look(text, dialect) if len(text) > LONG else _look_once(text, dialect)


def _look(text: str, dialect: str) -> bool:
    name = "mysql" if dialect in _MYSQL_NAMES else dialect
    verbs = _VERBS.get(name)
    if verbs is not None and _ANYWHERE[name].search(_HARMLESS.sub("", text)):
        return True
    if ";" not in text and _PLAIN.match(text):
        return False
    statements = _split(text, name)
    if statements is None:
        return True
    if verbs is None:  # a database nobody tested
        return not all(_PLAIN.match(statement) for statement in statements if statement.strip())
    return any(verbs.match(statement) for statement in statements)


_look_once = lru_cache(maxsize=500)(_look)


def _split(text: str, name: str) -> list[str] | None:
    """Cut *text* into statements without strings and comments; None where it is not sure where those end."""
    several = ";" in text
    statements: list[str] = []
    parts: list[str] = []
    for found in _TOKEN.finditer(text):
        skipped = found["skip"]
        if skipped is not None:
            if several and _is_doubtful(skipped, name):
                return None
            if skipped[0] == "#" and name != "mysql":
                parts.append(skipped)  # an operator
            else:
                parts.append(" ")
        elif found["end"] is not None:
            statements.append("".join(parts))
            parts = []
        elif found[0] in _OPENERS:
            return None  # never closed
        else:
            parts.append(found[0])
    statements.append("".join(parts))
    return [statement.lstrip(" \t\r\n\f\v(") for statement in statements]


_OPENERS = {"'", '"', "`"}


def _is_doubtful(skipped: str, name: str) -> bool:
    """Tell whether the server may see another end of a string or comment than we did."""
    first = skipped[0]
    if first in _OPENERS:
        return "\\" in skipped
    if first == "$":
        return name != "postgresql"
    if first == "#":
        return name != "mysql" and ";" in skipped
    if first == "-":
        return name == "mysql" and skipped[2:3] not in _SPACES
    return "/*" in skipped[2:]  # PostgreSQL nests them


_SPACES = {"", " ", "\t", "\n", "\r"}


# -- reads that may be sent twice --------------------------------------------------------------


@lru_cache(maxsize=500)
def is_plain_read(text: str, dialect: str) -> bool:
    """Tell whether *text* is a query that changes and locks nothing, however often it is sent.

    Only functions known to be harmless count, so a wrong no is likely, and a wrong yes is not.
    """
    if _UNSURE.search(text) or not _QUERY.match(text) or _look(text, dialect):
        return False
    called = _CALL.findall(_STRING.sub("", text))
    return all(name.lower() in _KNOWN for name in called)


_QUERY: Final = re.compile(r"[\s(]*(?:SELECT|WITH|VALUES)\b", re.IGNORECASE)
_UNSURE: Final = re.compile(
    r"\b(?:INSERT|UPDATE|DELETE|MERGE|REPLACE|INTO|FOR|LOCK|SHARE|CALL|EXECUTE|PROCEDURE|NEXTVAL)\b"
    r"|[;@\\#]|--|/\*",
    re.IGNORECASE,
)
_STRING: Final = re.compile(r"'(?:[^']|'')*'")
_CALL: Final = re.compile(r"""([\w$.]*[\w$"`\]])\s*\(""")
#: What may stand before a parenthesis: words of the language, types with a length, and harmless functions.
_WORDS: Final = """
    select from where and or not in exists any all some on using join as by over partition union except
    intersect having when then else case values with recursive distinct between like is null limit offset
    filter within group materialized lateral array row cast varchar char character varying numeric decimal
    float bit varbinary time timestamp datetime interval nchar nvarchar binary
    count sum min max avg coalesce nullif greatest least lower upper length char_length character_length abs
    round floor ceil ceiling mod power sqrt sign trim ltrim rtrim btrim substr substring position strpos instr
    concat concat_ws left right lpad rpad extract date_part date_trunc date strftime julianday year month day
    hour minute second now current_timestamp array_agg string_agg group_concat json_agg jsonb_agg json_object
    json_build_object jsonb_build_object json_extract row_number rank dense_rank percent_rank ntile lag lead
    first_value last_value total ifnull if iif unnest generate_series hex md5 to_char bool_and bool_or
"""
_KNOWN: Final = frozenset(_WORDS.split())
