"""A catalog as a static site that opens in a browser: from a folder, from any web server, without a network."""
