"""What a report says: facts of a result put into the views that pages draw."""
