"""Classic control, with Gymnasium's dynamics."""
