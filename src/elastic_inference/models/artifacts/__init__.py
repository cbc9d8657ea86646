"""The artifact store: model files, and what was made of them, by content, between loads.

`store` is the front: artifacts by kind and key. `blobs` holds whole files by their SHA-256, `room` decides what fits,
`locks` are the kernel's, which frees them when their holder is killed.
"""
