"""What runs the work: files and locks, threads, processes, and how a study is operated."""
