"""One file a kind of data: how it passes each stage, its words, its defaults.

Nobody imports these: they are found through the entry-point group of
:mod:`ae_pipeline.kind` and loaded by name, as those of other packages are.
"""
