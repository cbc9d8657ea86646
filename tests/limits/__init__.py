"""Tests of elastic_inference.limits."""
