"""How is the API described? With drf-spectacular if the project has the app, otherwise not at all.

Views import these names from here, so that a project without it can use them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.apps import apps

if TYPE_CHECKING or apps.is_installed("drf_spectacular"):
    from drf_spectacular.extensions import (
        OpenApiSerializerExtension,
        OpenApiSerializerFieldExtension,
    )
    from drf_spectacular.types import OpenApiTypes
    from drf_spectacular.utils import (
        OpenApiResponse,
        extend_schema,
        extend_schema_field,
        inline_serializer,
    )
else:

    def _describes_nothing(*args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        return lambda described: described

    extend_schema = extend_schema_field = inline_serializer = _describes_nothing
    OpenApiResponse = _describes_nothing

    class OpenApiTypes:
        """Stands for drf-spectacular's types; does nothing."""

        OBJECT = None

    class OpenApiSerializerExtension:
        """Stands for a serializer's description; does nothing."""

    class OpenApiSerializerFieldExtension:
        """Stands for a field's description; does nothing."""


__all__ = [
    "OpenApiResponse",
    "OpenApiSerializerExtension",
    "OpenApiSerializerFieldExtension",
    "OpenApiTypes",
    "extend_schema",
    "extend_schema_field",
    "inline_serializer",
]
