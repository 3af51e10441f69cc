"""How options are declared, loaded and rendered. No I/O but reading the files it is given."""
