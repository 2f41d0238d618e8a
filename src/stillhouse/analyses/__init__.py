"""Analyses: what is asked of data and methods beside the score of a distilled set. One file is one analysis: `Params` and
`analyse(real, params, run)`, flat rows of numbers for one table.
"""
