"""The host service: types, prices, capacity, tokens, supervision, control API, metrics and usage."""
