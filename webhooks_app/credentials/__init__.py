"""What may be added to a request, and for which origins?

`use` is imported from its own module: it needs the transport, which processes that send nothing
do not load.
"""

from webhooks_app.credentials.certificate import BadCertificate
from webhooks_app.credentials.kinds import (
    CLIENT_AUTHS,
    MAX_HEADERS,
    MAX_ORIGINS,
    NAME,
    NAME_SHAPE,
    PARTS,
    BadCredential,
    origin_in,
    read_origins,
    read_parts,
)
from webhooks_app.credentials.store import (
    StoredCredential,
    Unusable,
    opened,
    seal,
    unseal,
)

__all__ = [
    "CLIENT_AUTHS",
    "MAX_HEADERS",
    "MAX_ORIGINS",
    "NAME",
    "NAME_SHAPE",
    "PARTS",
    "BadCertificate",
    "BadCredential",
    "StoredCredential",
    "Unusable",
    "opened",
    "origin_in",
    "read_origins",
    "read_parts",
    "seal",
    "store",
    "unseal",
    "use",
]
