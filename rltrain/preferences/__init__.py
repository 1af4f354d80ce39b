"""Feedback from people: clips, questions about pairs of them, answers, and rewards fitted to these."""
