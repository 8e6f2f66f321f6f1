"""A trained model on disk, and new data judged by it."""
