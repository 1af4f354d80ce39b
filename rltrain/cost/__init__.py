"""What a run costs: the user's own prices, a meter of time and energy, and a worksheet that compares ways to act."""
