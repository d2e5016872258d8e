"""Which statements does PostgreSQL plan once, and how do they get into the database?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar

from django.db import migrations

# A function's statement is written for one plan: nested loops that begin at a few known rows and
# follow an index from there. Statistics of a queue are always wrong (the last ANALYZE saw it empty,
# or full of work that is done by now), and a planner that believes them sorts or hashes the whole
# backlog: 32 ms in place of 3 with 3,000 waiting. Before PostgreSQL 18 "off" adds 1e10 to a plan's
# cost, for which JIT would compile the plan in half a second, each time it is run.
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
#: For statements that are given all they look for: nothing but a bitmap scan, which needs a value,
#: may read a table.
BY_VALUE = {"enable_bitmapscan": "on", "enable_indexscan": "off", "enable_indexonlyscan": "off"}


class Function:
    """A statement that PostgreSQL plans once in a session, and always in the same way.

    Made by a migration as a PL/pgSQL function, which keeps its plan by itself; the planner's
    settings are the function's own and end with each call. A statement prepared by name would do
    the first only, and not behind PgBouncer before 1.21.

    The name ends in a digest of all else, so that processes of the last version still find theirs
    while a new one is deployed: a changed text needs a migration that names the new function.
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
        """Define it; ``statement`` refers to the arguments, whose names begin with ``_``.

        ``call`` takes them by name, without that sign; ``settings`` go beside those of all.

        Args:
            only_if: a query without whose rows nothing is done. So no plan is made, and kept, while
                the table is empty: then every index that holds an id costs the same, also one that
                begins with another column, which would be walked from end to end for each id.
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
    """Return the migration's operation that makes these functions, each as it reads now.

    A new database gets what the code calls at once; one that had this migration already gets a
    changed function by the migration that names it, which a test asks for.
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
