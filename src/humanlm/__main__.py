"""`python -m humanlm`: the same as `humanlm`."""

from humanlm.cli import main

if __name__ == "__main__":
    main()
