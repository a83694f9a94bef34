"""From public corpora to the contract: files of somebody else's form go in, a taxonomy and VOC records with a manifest come out.

To add a corpus: a module with the reading and the writing (as `acos`), and a line in the table of commands (`voc.__main__`).
"""
