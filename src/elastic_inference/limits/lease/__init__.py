"""The device lease: accelerators of one device take turns of one request, each as often as its share says.

`policy` decides on `tenant`s by their `use`, `layout` writes it into shared `memory`, `kernel` holds what the operating
system gives, `segment` puts them together, `holder` is an accelerator's end and `repair` the host's. The hand-over goes
from process to process.
"""
