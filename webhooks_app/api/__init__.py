"""What can a client ask about webhooks? One file for each resource."""

__all__ = ["access", "fields", "messages", "pages", "payload", "problems", "read"]
