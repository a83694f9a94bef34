"""What a model is measured in; one folder per suite."""
