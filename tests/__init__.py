"""The tests. A package by name, because verl and TransferQueue install one of the same name, which would win over a plain folder."""
