"""The controller's truth and its rules.  Pure: time, ids and randomness come in as arguments."""
