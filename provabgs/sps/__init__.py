"""What a galaxy emits: SSP libraries, star-formation and metallicity histories, dust, and the composite spectrum."""
