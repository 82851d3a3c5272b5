"""DESI and Legacy Surveys files in, observations out."""
