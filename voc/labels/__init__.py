"""The taxonomy and how it changes between nights."""
