"""The terminal: commands in, tables and exit codes out."""
