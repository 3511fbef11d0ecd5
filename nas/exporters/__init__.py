"""Export of trained networks to TFLite, and checks of the exported files."""
