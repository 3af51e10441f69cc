"""`python -m berth`, the same as the `berth` script."""

from berth.cli.main import main

if __name__ == "__main__":
    main()
