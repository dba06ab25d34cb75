"""The peers: standalone programs that do not import mmgraph."""
