"""What runs: the processes of accelerators, how each is started, limited, watched and ended."""
