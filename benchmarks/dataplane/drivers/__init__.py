"""One module a contestant: it starts its server and makes exchanges; `drive` gives it its turns."""
