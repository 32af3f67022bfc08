"""Building and running generated CUDA libraries."""
