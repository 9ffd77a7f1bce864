"""Phrase: the one prompt builder, the one renderer, and the templates both use."""
