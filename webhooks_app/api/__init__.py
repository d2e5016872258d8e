"""What can a client ask about webhooks? One file for each resource."""

__all__ = ["access", "credentials", "fields", "messages", "pages", "problems", "read"]
