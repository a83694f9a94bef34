"""Where stages meet: bytes go in under keys, finished directories with a manifest written last come out.

In order: the interface (`base`), its two implementations (`local`, `s3`), addresses (`uri`), every object key of a run
(`layout`), manifests (`manifest`), and the log of promotions (`champion`). To add a kind of store: a class with the methods of
`base.Store`, its scheme in `uri`, and its line in the tests of all stores.
"""
