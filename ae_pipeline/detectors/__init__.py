"""What turns samples into scores, and scores into statements."""
