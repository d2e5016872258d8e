"""What did a client ask for, and how did it go?"""

from pathlib import Path

#: Not from Django's settings: a render process does not load them.
PROJECT_ROOT = Path(__file__).resolve().parents[1]
