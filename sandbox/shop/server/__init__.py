"""The shop's server. The build copies this folder into a release as the package `shop`, which needs nothing else."""
