"""What a fitted model tells beside its scores."""
