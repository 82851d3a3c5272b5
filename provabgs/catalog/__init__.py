"""The posterior store: write, open, query, export."""
