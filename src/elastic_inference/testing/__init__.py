"""Shipped fakes and helpers for tests: manual clock, engines that wait or fail, a started accelerator."""
