"""The nouns of Helix as typed records.  Pure: no clock, no I/O."""
