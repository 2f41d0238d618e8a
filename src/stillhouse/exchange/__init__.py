"""Distilled sets from and for elsewhere: others' files become sets that the judge scores as any other, ours become files that
others read.

A reader gives what stands in a file (`found.Found`), `assemble` puts it together with what the person declares of it
(`declared.Declared`) and checks both against the real set. Our own exports carry a text that declares everything (`manifest`).
"""
