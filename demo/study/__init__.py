"""The study corpus: an openly licensed stand-in for a private set of customer feedback, of the same size and shape.

All words are our own (`words/`, Apache-2.0 like the code); nothing is downloaded and nothing is drawn from real people.
"""
