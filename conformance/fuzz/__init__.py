"""Generated policies: sets are drawn, foretold by the oracle, probed, and shrunk where they disagree.

The sets are drawn in logical names (placeholders, as scenarios have them), so that a set means the same in
every slot of the pool and can be written out as a scenario as it is.
"""
