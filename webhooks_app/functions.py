"""Which statements does PostgreSQL plan once, and how do they get into the database?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar

from django.db import migrations

# These settings force one kind of plan: nested loops that start at a few known rows and follow an
# index from there. Statistics of a queue are always wrong (ANALYZE last saw it empty, or full of
# work that is done by now); a planner that uses them sorts or hashes the whole backlog: 32 ms
# instead of 3 with 3,000 pending. Before PostgreSQL 18 "off" adds 1e10 to a plan's cost, so JIT
# would compile it, which takes half a second on each call.
_ONE_PLAN = {
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    "enable_sort": "off",
    "enable_incremental_sort": "off",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
#: For statements that look up given values only: tables are read by bitmap scans alone, which need
#: a value to look for.
BY_VALUE = {"enable_bitmapscan": "on", "enable_indexscan": "off", "enable_indexonlyscan": "off"}


class Function:
    """A statement that PostgreSQL plans once per session, always in the same way.

    A migration creates it as a PL/pgSQL function, which keeps its plan; the planner's settings
    belong to the function and end with each call. A prepared statement would keep its plan, too,
    but not the settings, and does not work behind PgBouncer before 1.21.

    The name ends in a digest of everything else. While a new version is deployed, processes of the
    old one still find their function; a changed statement needs a migration with the new name.
    """

    known: ClassVar[dict[str, Function]] = {}

    def __init__(
        self,
        name: str,
        arguments: str,
        returns: str,
        statement: str,
        *,
        only_if: str = "",
        **settings: str,
    ) -> None:
        """Define it; ``call`` takes the arguments by name, without the ``_`` that they begin with.

        Args:
            only_if: a query; if it returns no row, the statement is skipped. Otherwise a plan made
                on an empty table would be kept: there all indexes seem to cost the same, and the
                planner may choose one that it must then read from end to end for each id.
        """
        self.arguments = arguments
        self.statement = statement
        self.settings = _ONE_PLAN | settings
        plan = "".join(f" SET {key} = {value}" for key, value in self.settings.items())
        signature = f"({arguments}) RETURNS {returns} LANGUAGE plpgsql{plan}"
        work = f"RETURN QUERY {statement};"
        work = f"IF EXISTS ({only_if}) THEN {work} END IF;" if only_if else work
        body = f"#variable_conflict use_column\nBEGIN\n  {work}\nEND"
        text = f"{signature} AS $function${body}$function$"
        self.name = f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        values = [f"{word} => %({word[1:]})s" for word in arguments.split() if word[0] == "_"]
        self.call = f"SELECT * FROM {self.name}({', '.join(values)})"  # noqa: S608 - ours
        self.definition = f"CREATE OR REPLACE FUNCTION {self.name}{text}"
        self.known[self.name] = self


def create_functions(names: Sequence[str]) -> Any:
    """Return a migration operation that creates these functions as they are defined now.

    A new database gets the current functions at once. A database that has run this migration gets
    a changed function from the migration that names it; a test checks that there is one.
    """

    def create(apps: Any, schema_editor: Any) -> None:
        stems = {name.rpartition("_")[0] for name in names}
        for function in Function.known.values():
            if function.name.rpartition("_")[0] in stems:
                schema_editor.execute(function.definition)

    def drop(apps: Any, schema_editor: Any) -> None:
        for name in names:
            schema_editor.execute(f"DROP FUNCTION IF EXISTS {name}")

    return migrations.RunPython(create, drop)
