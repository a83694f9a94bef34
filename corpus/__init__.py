"""From raw feedback to exact training shards: read, check, encode, compare, draw, write, and report what was done.

Comes in: a configuration (`voc.config.night.NightforgeConfig`) with its taxonomy, test set, sources and base model.
Goes out, into the run's directories of the store: accepted rows and their tokens, what was refused and left out and why, the data
report and its card, every arm's `mixture.json` and samples in training order, the held-out rows, and `models.json`.

The rooms, in the order of the pipeline; each imports only those before it:

- `ground`: where tasks run, files between the store and this machine, what the written files hold
- `sources`: from addresses to rows that nobody has checked yet
- `encoding`: from a record to tokens and which of them are learned
- `parts`: one split of a source to accepted rows, tokens and counts; all parts of a source as one
- `comparison`: what is there twice, or in an evaluation set
- `mixing`: what is held out, what an arm draws and in which order, packed into rows and written as shards
- `report`: `data_report.json`, the table for a terminal, the data card

Above them, the modules that use all of it: `build` (a configuration to usable rows), `prepare` (a run's data; `python -m training
prepare`), `command` (`python -m voc mix`, `show`, `export`) and `export` (an arm's data for the closed service).

How to add a source format: `corpus.sources`.
"""
