"""Generated policies: drawn sets, the oracle's whole table for each, a live mesh probed, disagreements shrunk.

The sets are drawn in logical names (placeholders, as scenarios have them), so that a set means the same in
every slot of the pool and can be written out as a scenario as it is.
"""
