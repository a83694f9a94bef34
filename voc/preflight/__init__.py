"""Everything that can be checked before anything expensive starts: a configuration goes in, findings and a created run come out.

In order: models and settings (`checks`), rows as `prepare` judges them (`data`), external models (`external`, `bedrock`),
and all of it together (`preflight`). To add a check: a function that returns what it read with a line about it, or raises a
named error, and its line in `voc.preflight.preflight.check_night`.
"""
