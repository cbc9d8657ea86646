"""Models by their files: a folder of them, their versions, what is said of them, and what is sent with a load."""
