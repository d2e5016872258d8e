"""What did a client ask for, and how did it go?"""

from pathlib import Path

#: Known without settings: a render's process has none.
PROJECT_ROOT = Path(__file__).resolve().parents[1]
