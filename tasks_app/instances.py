"""How does raw SQL become model instances? Without the query builder, which costs more than the
statement itself where a request or a claim reads one row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

import orjson
from django.db import connection, models

Row = TypeVar("Row", bound=models.Model)


@lru_cache(maxsize=16)
def columns(model: type[models.Model]) -> str:
    """Return all columns of a model, in the order of its fields, for SELECT or RETURNING."""
    meta = model._meta
    return ", ".join(f'{meta.db_table}."{field.column}"' for field in meta.concrete_fields)


@lru_cache(maxsize=16)
def _shape(model: type[models.Model]) -> tuple[list[str], list[bool]]:
    fields = model._meta.concrete_fields
    is_json = [field.get_internal_type() == "JSONField" for field in fields]
    return [str(field.attname) for field in fields], is_json


def fetch(model: type[Row], sql: str, parameters: Any, more: Sequence[str] = ()) -> list[Row]:
    """Run a statement that returns ``columns(model)``, and return its rows as instances.

    Args:
        more: attributes for columns that follow those of the model.
    """
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        found = cursor.fetchall()
    names, is_json = _shape(model)
    # The ORM's converters (JSON text to objects) do not run on raw cursors.
    instances = [
        model.from_db(
            connection.alias,
            names,
            [
                orjson.loads(value) if json and isinstance(value, str) else value
                for value, json in zip(row[: len(names)], is_json, strict=True)
            ],
        )
        for row in found
    ]
    for row, instance in zip(found, instances, strict=True):
        vars(instance).update(zip(more, row[len(names) :], strict=True))
    return instances
