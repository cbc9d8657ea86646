"""Models of other people on an accelerator and on their own runtimes: `make bench-models`.

`models.toml` names them, `fetch` gets their packages, `own` and `product` compute, each in a process of its own.
"""
