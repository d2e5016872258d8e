"""Who accepts what? `python -m tests.support.accepts_table` writes the tables of docs/providers.md.

They come from what the providers say themselves, so a page is right or a test is red.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from tests import ROOT

PAGE = ROOT / "docs" / "providers.md"
BEGIN = "<!-- written by: python -m tests.support.accepts_table -->\n"
END = "<!-- until here -->\n"
TITLES = {
    "video_generation": "Video",
    "image_generation": "Pictures",
    "audio_generation": "Sound",
}


def tables() -> str:
    """Return a table of each task type: a parameter a row, a provider a column."""
    from tasks_app.api.task_data import parameters

    return "\n".join(
        f"### {TITLES[task_type]}\n\n"
        "| parameter | `previz` | `openai` | `replicate`, `fal`, `cog` |\n|---|---|---|---|\n"
        + "".join(f"{row}\n" for row in _rows(task_type, list(parameters(task_type))))
        for task_type in TITLES
    )


def _rows(task_type: str, names: list[str]) -> Iterator[str]:
    from tasks_app.providers.previz.provider import PrevizProvider
    from tasks_app.providers.remote.fal import FalProvider
    from tasks_app.providers.remote.openai_compatible import OpenAICompatibleProvider

    drawn = PrevizProvider().accepts(task_type)
    openai = OpenAICompatibleProvider(model="any").accepts(task_type, "any")
    bare = FalProvider(model="any", fields={}).accepts(task_type)
    all_fields = {name: name for name in names}
    mapped = FalProvider(model="any", fields=all_fields).accepts(task_type)
    for name in names:
        far = _cell(bare.parameters.get(name))
        if name in mapped.parameters:
            far = "if mapped" if far == "no" else f"{far}; others if mapped"
        cells = [_cell(drawn.parameters.get(name)), _cell(openai.parameters.get(name)), far]
        yield f"| `{name}` | {' | '.join(cells)} |"
    inner = listed_names(drawn.options)
    yield f"| `options` | {inner} | passed on | passed on |"


def listed_names(options: Any) -> str:
    """Return the options that a provider knows, with what they may be."""
    return "; ".join(f"`{name}`: {_cell(values)}" for name, values in options.items()) or "no"


def _cell(values: Any) -> str:
    """Return what a parameter may be as a clause; a bare "yes" for all that the API takes."""
    from tasks_app.providers.accepts import listed

    if values is None:
        return "no"
    parts = []
    if values.choices:
        parts.append(listed([f"`{_shown(value)}`" for value in values.choices]))
    if values.least is not None or values.most is not None:
        parts.append(f"{values.least:g} to {values.most:g}")
    if values.longest:
        parts.append(f"at most {values.longest:,} characters")
    if values.sides:
        parts.append(f"at most {'x'.join(map(str, values.sides))}, either way round")
    if values.languages:
        parts.append(listed([f"`{language}`" for language in values.languages]))
    if values.only_with:
        name, wanted = values.only_with
        parts.append(f"only where `{name}` is {listed([f'`{value}`' for value in wanted])}")
    if values.default is not None:
        parts.append(f"by default `{_shown(values.default)}`")
    return "; ".join([*parts, *([values.note] if values.note else [])]) or "yes"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def page() -> str:
    """Return the page with its tables written anew."""
    return re.sub(
        f"(?<={re.escape(BEGIN)}).*(?={re.escape(END)})",
        lambda _: tables(),
        PAGE.read_text(),
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "moviesvc.settings")
    os.environ.setdefault("EMBEDDED", "off")
    import django

    django.setup()
    PAGE.write_text(page())
