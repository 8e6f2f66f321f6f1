"""The demonstration: sample data through the whole pipeline."""
