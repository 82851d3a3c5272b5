"""Sources of SSP libraries behind one interface: the recovered FSPS grid, python-fsps, BC03-MILES."""
