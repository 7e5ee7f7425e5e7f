"""The transformer, its heads and the hierarchical classifier."""
