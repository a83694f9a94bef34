"""What is told about a night's data: the counts, the table for a terminal, the data card."""
