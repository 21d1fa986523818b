"""The algorithmic tasks of Graves et al. (2014): sequences of bits to read, and bits to answer."""
