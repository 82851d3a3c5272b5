"""What every other package may import: errors, statuses, constants, arrays, JAX, files. Imports none of them."""
