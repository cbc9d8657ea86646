"""Which client and accelerator are cheapest for a model: measure, cost, search, report."""
