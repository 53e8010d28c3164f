"""Scheduling inside the controller: columns kept from the state, a pass over them, and the commit point.

`columns` follows the records and freezes snapshots; a planner plugin plans; `verify` re-checks against the state as
it is now; `cycle` ties them together and `pace` says when.  `feasible` and `why` answer questions from the same
columns.  Nothing here reads a clock or does I/O: times and timers come in as arguments.
"""
