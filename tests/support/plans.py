"""How does a test see the plan of a `Function`? It plans the statement under the same settings."""

from __future__ import annotations

import re

from django.db import connection, transaction

from webhooks_app.functions import Function


def plan_of(function: Function, *values: str) -> str:
    """Return the generic plan that the function would make now, and keep.

    Args:
        values: SQL of the arguments, for a function that plans each time.
    """
    arguments = [word.split() for word in function.arguments.split(",") if word]
    statement = function.statement
    for place, (name, _) in enumerate(arguments, 1):
        statement = re.sub(rf"(?<!\w){name}\b", f"${place}", statement)
    types = f"({', '.join(kind for _, kind in arguments)})" if arguments else ""
    given = f"({', '.join(values or ['NULL'] * len(arguments))})" if arguments else ""
    with transaction.atomic(), connection.cursor() as cursor:
        for name, value in function.settings.items():
            cursor.execute(f"SET LOCAL {name} = {value}")
        cursor.execute(f"PREPARE checked {types} AS {statement}")
        cursor.execute(f"EXPLAIN EXECUTE checked {given}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
        cursor.execute("DEALLOCATE checked")
    return plan


def unguided(plan: str) -> list[str]:
    """Return the indexes and tables that the plan may read completely, without a condition."""
    # PostgreSQL 18 says so of the way that it had to take, though the settings are against it.
    lines = [line for line in plan.splitlines() if line.strip() != "Disabled: true"]
    return [
        found["index"] or found["table"]
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if (found := _SCAN.search(line)) and not re.search(r"(Index|Recheck) Cond:", following)
    ]


_SCAN = re.compile(
    r"(?:Seq|Index|Index Only) Scan(?: Backward)?(?: using (?P<index>\w+))? on (?P<table>\w+)"
)
