"""Who may have what: types, capacity, leases, records, usage, and where they are kept. Starts and ends no process."""
