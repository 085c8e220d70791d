"""`python -m diffkit`, as launchers of several processes start it."""

from diffkit.cli.main import main

if __name__ == "__main__":
    main()
