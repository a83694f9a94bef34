"""Whether a candidate is better: `gate` (an interval against a limit), `decide` (all limits), `promote` (the champion log).

In come results and items of every model; out go decision.json, promotion.json and a record of the champion log. Limits come
from the suites (`Suite.list_gates`) and from `decision.metrics`: to add one for a figure that a suite offers, name it there.
"""
