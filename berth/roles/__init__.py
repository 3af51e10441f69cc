"""One package a subcommand; siblings do not import each other."""
