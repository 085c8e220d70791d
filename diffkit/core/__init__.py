"""The interfaces and the records that pass between them."""
