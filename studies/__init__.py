"""Studies behind the tables and figures of docs/; studies/README.md lists them."""
