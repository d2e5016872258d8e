"""Who may use the shop's webhook API? Each token opens one project."""

from dataclasses import dataclass

from rest_framework.authentication import BaseAuthentication

TOKENS = {"token-of-books": ("books", {"read", "submit", "admin"}), "to-look": ("books", {"read"})}


@dataclass(frozen=True)
class ShopAccess:
    """What a token opens."""

    scope: str | None  # the one project; None would be all of them
    actions: set[str]

    def allows(self, action: str) -> bool:
        return action in self.actions


class ShopAuthentication(BaseAuthentication):
    """Reads ``Authorization: Bearer <token>``."""

    def authenticate(self, request):
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or token not in TOKENS:
            return None  # answered with 401
        return None, ShopAccess(*TOKENS[token])

    def authenticate_header(self, request):
        return "Bearer"
