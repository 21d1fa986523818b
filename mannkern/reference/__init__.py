"""SPEC.md in plain PyTorch: the definition, the fallback and the gradient oracle. Imports nothing of the package."""
