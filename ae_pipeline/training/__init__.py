"""From samples to a fitted network: split, loop, history, checkpoints."""
