"""Requests for one model that wait together run together, where that is proved to give each the same answer sooner."""
