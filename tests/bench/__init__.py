"""How fast is it? Programmes that measure, never tests that time: `python -m tests.bench`."""
