"""Compute and memory limits of one accelerator process: cgroup v2, cgroup v1, or rlimit and duty cycle."""
