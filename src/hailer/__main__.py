"""``python -m hailer``: the same as the command ``hailer``."""

from hailer.cli import main

if __name__ == "__main__":
    main()
