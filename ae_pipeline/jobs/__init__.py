"""The commands' work, one module a command."""
