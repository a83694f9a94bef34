"""What a VOC record is and which rows are accepted: bytes of a file go in, records and refusals with their reasons come out.

In order: lines and JSON objects (`lines`), personal data replaced (`redaction`), labels, segments and language looked at
(`checks`, `language`), one row judged (`records`), and the one rule of acceptance that preflight and `prepare` share
(`acceptance`); a refusal and its reason are in `refusals`. To add a reason for a refusal: raise it where the row is judged, and
explain it in `corpus.report`. Other formats than JSON lines are read in `corpus.sources`.
"""
