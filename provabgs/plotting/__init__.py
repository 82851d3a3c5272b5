"""One function per figure; each takes data and Axes."""
