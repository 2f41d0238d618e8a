"""Theorems as functions of matrices alone: no data, no model, no chance but what is passed in.

Examples are rows: F (n, p) features, Y (n, c) targets, W (p, c) weights; F_S (m, p) and Y (m, c) of a distilled set. The papers
write examples as columns, so their formulas stand here transposed.
"""
