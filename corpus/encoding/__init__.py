"""Encoding: from a checked record to `input_ids` and which of them are learned, for one base model.

Comes in: a base model's folder, and records (`voc.records.records`). Goes out: an `EncodedSample` per record, or the `RowError`
for which it cannot be learned.

- `base_model`: tokenizer and chat template, and everything about the model that can be wrong before training starts
- `pieces`: text to tokens in batches, with what recurs tokenised once
- `encode`: records to samples, checked by decoding; whether a template round-trips; a sample shown

One more kind of record is one branch in `encode.SampleEncoder.render`: pieces of text, each learned or not, and the texts that
the learned ones must decode to.
"""
