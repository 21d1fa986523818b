"""Verification of every kernel against the float64 reference, for the tests and for ``python -m mannkern verify``."""
