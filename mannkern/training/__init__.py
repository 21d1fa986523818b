"""The engine: it trains an experiment that it is given, saves it and resumes it, and knows none by name."""
