"""Programs that run as they are: `python -m fastgrad.examples.digits`."""
