"""The leaderboard: records that anyone can add, verify, and look at.

A board is a folder. ``board.json`` says what its tables are about, ``records.jsonl`` grows by a
line for every run and every verification, ``runs/`` holds the episode returns behind them.
"""
