"""Many trainings of one study, and which of them to choose."""
