"""The study corpus: an openly licensed stand-in for a private set of customer feedback, of the same size and skew.

In: the word lists in `words/` (all our own, Apache-2.0 like the code; nothing is drawn from real people) and a seed. Out: JSONL
files as `python -m voc mix` reads them. In pipeline order: `words` reads the lists, `taxonomy` makes 1,420 leaves of them,
`speaker` and `typos` write sentences, `comments` composes them, `code`, `numbers` and `texts` write chats that `general` draws
from, `distinct` keeps texts from being written twice, `rows` writes the files. One more kind of chat: a function in one of the
three, and a line in `general.WRITERS`; one more language: a file in `words/` and a column in its tables.
"""
