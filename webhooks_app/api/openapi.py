"""How is the API described where drf-spectacular is installed? Where it is not, not at all.

The views take these names from here, so that a project without it can use them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    try:
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
    except ImportError:

        def _describes_nothing(*args: Any, **kwargs: Any) -> Callable[[Any], Any]:
            return lambda described: described

        extend_schema = extend_schema_field = inline_serializer = _describes_nothing
        OpenApiResponse = _describes_nothing

        class OpenApiTypes:
            """Kinds of values, for nobody."""

            OBJECT = None

        class OpenApiSerializerExtension:
            """Describes a serializer to nobody."""

        class OpenApiSerializerFieldExtension:
            """Describes a field to nobody."""


__all__ = [
    "OpenApiResponse",
    "OpenApiSerializerExtension",
    "OpenApiSerializerFieldExtension",
    "OpenApiTypes",
    "extend_schema",
    "extend_schema_field",
    "inline_serializer",
]
