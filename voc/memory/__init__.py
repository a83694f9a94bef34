"""The memory plan of a training: the shapes of a model and a training section go in, the peak of one GPU comes out. Pure.

In order: the bytes of each part (`parts`), the moments of a step and the largest of them (`plan`), what to change where it does
not fit, and the plan as text and JSON (`advice`). To add an optimizer or a kernel: its bytes in `parts`, and a comparison with
what is measured in `benchmarks/memory_plan_check.py`.
"""
