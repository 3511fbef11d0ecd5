"""Networks from specs: one builder for the supernet and for stand-alone networks."""
