"""Specs: what a pipeline is made of, as data that a person can read and a file can hold."""
