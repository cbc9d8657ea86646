"""How many hosts of which kind hold a demand, what they cost, and what happens when some of them die.

`kinds` says what a host can be, `auto` chooses types, `assignment` the kind of host for each, `search` finds the
numbers by simulating, `plan` puts it together and `outcome` into figures.
"""
