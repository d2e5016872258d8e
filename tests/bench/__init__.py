"""How fast is it? Programs that measure; no test depends on a time: `python -m tests.bench`."""
