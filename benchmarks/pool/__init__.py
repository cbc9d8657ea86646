"""How well and how quickly a pool places and simulates: `make bench-pool`."""
