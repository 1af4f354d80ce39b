"""Trains a policy again when what it meets has changed: ``rltrain retrain POLICY.yaml``, from cron or by hand."""
