"""Report: what is said about a night's data, for programs, for a terminal, for people who do not write code.

Comes in: a `Corpus` and the plans of its arms. Goes out: `data_report.json`, `dropped.jsonl`, a text table and an HTML page.

- `data_report`: the report built, and read again by the two below
- `mix_table`: the table that `python -m voc mix` prints
- `card_plots`, `card`: the data card, its pictures and its words

One more reason that rows are counted by is one entry in `card.EXPLANATIONS`.
"""
