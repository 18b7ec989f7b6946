"""How fast the package is, beside what the machine can do at best and beside its peers.

::

    python -m tests.benchmarks                       # floors and ourselves
    python -m tests.benchmarks --peers all           # each peer in an environment of its own
    python -m tests.benchmarks --workloads W1 W2 --runs 9 --peers trackio wandb

``systems.py`` and ``peers.py`` say how each system is called, ``workloads.py`` what
is done with it, ``figures.py`` what is to be reached. Every run of a workload has a
process of its own; systems take turns, so that what else the machine does hits all.
"""
