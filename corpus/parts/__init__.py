"""Parts: a split of a source becomes accepted rows, their tokens, a quarantine file and counts.

Comes in: an `InputSplit` of `corpus.sources`. Goes out: a `PartResult` per split, and per source a `Source` that knows all of its
parts, and `UsableRows`, the row numbers that may be trained on.

- `ingest`: one part: read, redact, check, encode, write, count; one task
- `part_files`: the Parquet file of a part's rows and the Arrow file of its tokens, written and read
- `statistics`: what a source holds, counted part by part
- `source_rows`: a source as the planning sees it

One more figure of a source: a field of `statistics.PartStatistics`, counted in `add`, merged in `include`, described in
`describe_file`.
"""
