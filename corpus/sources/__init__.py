"""Sources: from addresses of a configuration to rows in the shape of the contract, unchecked, in bounded memory.

Comes in: `data.sources[]` and `data.test` (`voc.config.data.SourceConfig`) and the watermark of the last promoted run.
Goes out: per source the splits that one task each reads, then per split every row once, or its refusal.

In the order of the pipeline:

- `splits`: which files a source has tonight, and the pieces of them that tasks read
- `formats`: the registry: how a format is named, cut and read
- `lines`, `chat`, `csv_rows`, `arrow_tables`: the readers; `columns`: a table's columns to the fields of the contract
- `rows`: what the room is about: a file, a split, a row, a format, and their addresses

One more format is one file with a function `read(split, source, max_row_bytes)` that yields `RawRow` or `Rejection` (lines
come from `lines.read_lines`, tables go through `columns.shape_row`), and one line in `formats.FORMATS`. Its name goes to
`voc.config.data.ReaderName`, so that a configuration may say it; a test compares the two lists.
"""
