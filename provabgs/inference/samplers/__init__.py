"""Samplers behind one interface: a log-probability in, samples with diagnostics out."""
