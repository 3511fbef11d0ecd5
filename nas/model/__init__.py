"""Networks built from specs: one builder for supernets and for stand-alone networks."""
