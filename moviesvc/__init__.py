"""How is the service put together?"""

#: The one definition: pyproject.toml, the API page and the changelog show this.
__version__ = "1.0.0"
