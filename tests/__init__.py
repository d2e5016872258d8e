"""Where does the project lie? Each test and each helper may be moved without counting folders."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
