"""How long one exchange takes with the data plane, beside raw sockets and beside other serving systems."""
