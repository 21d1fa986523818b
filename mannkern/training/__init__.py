"""The training engine: it trains, saves and resumes any experiment, which it takes as an argument."""
