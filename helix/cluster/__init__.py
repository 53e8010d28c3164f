"""A whole cluster on one machine: what `hcluster` and the pytest fixture `helix_cluster` are made of."""
