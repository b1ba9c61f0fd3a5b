"""How bytes get to the disk and back: files that are whole or absent, and lossless pictures."""
