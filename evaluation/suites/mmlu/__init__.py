"""Multiple-choice questions in three protocols, and what their differences mean."""
