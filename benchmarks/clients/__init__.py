"""Other makers' clients and servers beside ours."""
