"""What a person reads of a run: rows, page, plots, history."""
