"""Experiments: a folder for each kind, with its settings, loss, report and pictures. ``registry.py`` lists them."""
