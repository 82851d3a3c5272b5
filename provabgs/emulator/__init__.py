"""Neural emulators of the SPS model, and the published PROVABGS one."""
