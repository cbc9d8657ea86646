"""A pool without processes: attaches, calls and deaths of hosts as events, with the pool's own placement and failover.

`control` runs the events of attaches, hosts and waiting one by one; `calls` computes each accelerator's queue;
`simulate` joins both. Demand comes from a trace (`trace`) or from a model (`demand_model`), service times from a
`profile`.
"""
