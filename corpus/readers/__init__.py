"""Readers of the input formats, one file each, behind `corpus.readers.read_split`."""
