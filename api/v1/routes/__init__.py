"""The resources of the API, one module each: a `Routes` with its handlers."""
