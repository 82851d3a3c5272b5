"""Mock galaxies, small files and libraries, and misbehaving fits that tests and studies share."""
