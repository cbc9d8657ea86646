"""Whether fractions hold: tenants of one real host beside neighbours that saturate, load, die and run out of memory."""
