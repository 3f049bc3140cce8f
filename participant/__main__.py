"""`python -m participant` is `touchstone-participant`."""

from participant.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
