"""From rest frame to data: cosmology, line spread, filters, Galactic dust, and one galaxy's observation."""
