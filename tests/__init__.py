"""The tests, as a package: verl and TransferQueue install one of the same name, which would win over a plain folder."""
