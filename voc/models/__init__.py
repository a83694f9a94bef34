"""What a model folder is: its files, weights, shapes, and what vLLM is told about its machine."""
