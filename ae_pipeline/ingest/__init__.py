"""A study's or a user's files to recordings and samples."""
