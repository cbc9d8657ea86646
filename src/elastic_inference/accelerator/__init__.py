"""The accelerator process: data-plane server, model store and table, request queue."""
