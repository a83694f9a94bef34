"""What a person reads of a run.

In: every model's results, decision, promotion, data report, mixtures, timings, and the results of the store's other runs. Out:
`report/` with page, JSON, text, table and pictures. In the order of the work: `rows` (a row per model of this run, and those of
other runs that may stand beside them), `content` (all of `report.json`), `plots`, `text_tables`, `page`, `write`.

A figure, a column of the table or a section of the page belongs to a suite: add it to the suite's `ReportPart`
(`evaluation/suites/<name>/report.py`, templates beside it); rows, text, history and page take it from there. What is of the run
and of no suite is a key of `content.build_report` and a template of this folder.
"""
