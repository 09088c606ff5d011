"""Speed as a ratio against the incumbent in the same run, and the runs behind published figures.

``python -m morl.experiments.bench`` measures speed, ``.learning`` trains the published presets and
``.resume`` kills runs and compares what they end in. All write small JSON files.
"""
