# Wraps PDM; every target sets up what it needs in .venv first.
