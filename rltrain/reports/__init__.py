"""Pictures, comparisons and reports of runs."""
