"""What to label next: what the networks see of every unlabelled place, what its label would change, and for how long.

The measure and the choice of a batch are in ``change`` and ``cover``, pure arrays; ``looks`` asks the networks.
"""
