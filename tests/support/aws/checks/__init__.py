"""Tests of the emulation and the stack; `selfcheck.py` runs them."""
