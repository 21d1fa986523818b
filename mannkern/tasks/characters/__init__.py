"""Drawn characters, from Omniglot or procedural glyphs, and the episodes that are sampled from them."""
