"""Streams of synthetic events, and golden files: events in, alerts out."""
