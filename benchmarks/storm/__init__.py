"""A storm of faults over a real host, with clients that check each answer, and a look at what is left of it."""
