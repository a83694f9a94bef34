"""The training engine alone, on a machine with torch and transformers and little else: no Ray, no store, no pydantic.

`packed_rows` draws rows of random tokens with the study's lengths, `train_gpu` times steps on them, `memory_plan_check` compares
peaks with the memory plan. One more setting to sweep: an option of `train_gpu` and its name in `SWEPT`; one more case of
memory: a line in `CASES`.
"""
