"""Drawn inputs, written by independent libraries, with the answer known beforehand: what weakseg takes must be right.

``python -m tests.generators --cases 2000 --seed 0`` draws, imports and counts; docs/reliability.md has the numbers.
"""
