"""What makes datasets: episodes recorded with policies."""
