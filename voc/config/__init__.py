"""The configuration: typed sections, the file that is read, presets, and the reference made from both."""
