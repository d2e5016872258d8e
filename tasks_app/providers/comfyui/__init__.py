"""How is media made by ComfyUI servers of one's own? A provider of workflow templates."""

__all__ = ["checks", "guess", "provider", "templates"]
