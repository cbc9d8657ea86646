"""What one GPU gives through accelerators: speed, shares, latencies and faults; it dry-runs on the CPU, small."""
