"""How one combination is measured: the task, the worker that runs it, arrivals, and clients on other machines."""
