"""The laptop twin's world: a tiny base model, its facts, and the customer feedback that it has never seen.

In: a `recipe` of sizes and seeds. Out: a folder with base model, data and questions. In pipeline order: `world` has the facts
and `wordings` how they are told, `comments` writes the feedback, `corpus` the texts and general rows, `tokenizer` and `pretrain`
make the base model, `make` writes the folders. One more wording: a line in `wordings`; one more size: a field of `recipe`, which
is an option of `python -m demo make` too. `twin` starts Airflow and Ray and runs a night on it.

Production code never imports this package; it meets the rest in files only.
"""
