"""Commands: parsing and dispatching only, one file each."""
