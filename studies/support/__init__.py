"""What several studies share: galaxies, the command line, and pieces of work that are kept."""
