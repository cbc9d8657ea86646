"""Many hosts as one: placement, failover and draining, on Ray for membership and processes."""
