"""The equations in plain PyTorch: definition, fallback and gradient oracle. Imports nothing of the other packages."""
